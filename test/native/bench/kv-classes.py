"""How K and V are best cut down to 4 and 2 bits: attention's relative rms error in float64, by what shares a scale.

    npm run build && python3 test/native/bench/kv-classes.py        (needs numpy)

Over the K and V of the demo model on a long prompt, and over synthetic ones with the outliers of Qwen's keys: channels
with biases up to 100. The last 64 rows attend to everything. `x 0.8`: steps that cover 0.8 of a group's range;
`least squares`: those that are fitted to its values.
"""

import json
import struct
import subprocess
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "models/demo"
HEADS, HEAD_DIM, LAYERS, THETA = 4, 64, 6, 50000.0
PAGE = 32


def checkpoint():
    data = (MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[8 + length + begin : 8 + length + end], np.uint16).astype(np.uint32) << 16
        tensors[name] = bits.view(np.float32).reshape(entry["shape"]).astype(np.float64)
    return tensors


def long_prompt():
    lines = (MODEL / "eval/retrieval.jsonl").read_text().splitlines()
    prompt = next(line["prompt"] for line in map(json.loads, lines) if line["prompt_tokens"] > 1900)
    program = """
      import { openTokenizer } from './dist/engine/index.js';
      const tokenizer = await openTokenizer('models/demo');
      console.log(JSON.stringify([...tokenizer.encode(process.argv[1], { addBos: false })]));"""
    command = ["node", "--input-type=module", "-e", program, prompt]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def rotated(x, theta):
    """x [tokens, ..., head_dim], rotated by its positions."""
    d = x.shape[-1]
    angles = np.arange(len(x))[:, None] * theta ** (-np.arange(0, d, 2) / d)
    shape = (len(x),) + (1,) * (x.ndim - 2) + (d // 2,)
    c, s = np.cos(angles).reshape(shape), np.sin(angles).reshape(shape)
    a, b = x[..., : d // 2], x[..., d // 2 :]
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def attend(q, k, v, mask=0.0):
    scores = q @ k.T / np.sqrt(q.shape[1]) + mask
    p = np.exp(scores - scores.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True) @ v


def demo():
    """(q, k, v) [tokens, head_dim] of every layer and head."""
    w, ids = checkpoint(), np.array(long_prompt())
    norm = lambda x, gain: x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * gain
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(LAYERS):
        at = lambda name: w[f"model.layers.{layer}.{name}.weight"]
        h = norm(x, at("input_layernorm"))
        q, k, v = ((h @ at(f"self_attn.{n}_proj").T).reshape(len(ids), HEADS, HEAD_DIM) for n in "qkv")
        q, k = rotated(q, THETA), rotated(k, THETA)
        for head in range(HEADS):
            yield q[:, head], k[:, head], v[:, head]
        out = [attend(q[:, i], k[:, i], v[:, i], mask) for i in range(HEADS)]
        x = x + np.concatenate(out, 1) @ at("self_attn.o_proj").T
        h = norm(x, at("post_attention_layernorm"))
        gate = h @ at("mlp.gate_proj").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ at("mlp.up_proj").T)) @ at("mlp.down_proj").T


def outliers(tokens=1536, d=128, heads=4):
    random = np.random.default_rng(3)
    for _ in range(heads):
        scale, bias = np.exp(random.normal(0, 0.5, d)), random.normal(0, 0.5, d)
        big = random.choice(np.arange(d // 2 - 24, d // 2), 4, replace=False)  # slowly rotated pairs
        bias[big] = random.choice([-1, 1], 4) * random.uniform(10, 100, 4)
        bias[big + d // 2] = random.choice([-1, 1], 4) * random.uniform(2, 30, 4)
        scale[big] *= 3
        common = random.normal(0, 1, (tokens, 16)) @ random.normal(0, 1, (16, d)) / 4
        k = (common + random.normal(0, 0.6, (tokens, d))) * scale + bias
        q = (common[random.permutation(tokens)] + random.normal(0, 0.8, (tokens, d))) * 1.3 / scale
        q[:, np.concatenate([big, big + d // 2])] *= 0.2
        v = random.standard_t(5, (tokens, d)) * np.exp(random.normal(0, 0.4, d))
        yield rotated(q, 1e6), rotated(k, 1e6), v


def bf16(x):
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def shared(x, axis, bits, covered=1.0):
    """One step and middle in bf16 for all along an axis."""
    low, high, top = x.min(axis, keepdims=True), x.max(axis, keepdims=True), 2**bits - 1
    middle, step = bf16((low + high) / 2), bf16((high - low) / top * covered)
    place = np.where(step > 0, (x - middle) / np.where(step > 0, step, 1), 0) + top / 2
    return middle + step * (np.clip(np.rint(place), 0, top) - top / 2)


def separable(x, bits):
    """ZipCache: each channel divided by the root of its largest value, then one step and middle per token."""
    channel = bf16(np.sqrt(np.abs(x).max(0, keepdims=True)))
    return shared(x / channel, 1, bits) * channel


def fitted(x, axis, bits, rounds=3):
    """Step and middle of least squared error, by turns with the codes; with two bits from 0.8 of the range."""
    low, high, top = x.min(axis, keepdims=True), x.max(axis, keepdims=True), 2**bits - 1
    middle, step = (low + high) / 2, (high - low) / top * (0.8 if bits == 2 else 1)
    places = lambda: np.clip(np.rint((x - middle) / np.where(step > 0, step, 1) + top / 2), 0, top) - top / 2
    for _ in range(rounds):
        place = places()
        mean = lambda values: values.mean(axis, keepdims=True)
        spread, common = mean(place**2) - mean(place) ** 2, mean(place * x) - mean(place) * mean(x)
        step = np.where(spread > 0, common / np.where(spread > 0, spread, 1), step)
        middle = mean(x) - step * mean(place)
    middle, step = bf16(middle), bf16(step)
    return middle + step * places()


def groups(x, bits, size=32):
    return shared(x.reshape(len(x), -1, size), 2, bits).reshape(x.shape)


SCHEMES = {
    "per token": lambda x, bits: shared(x, 1, bits),
    "per token x 0.8": lambda x, bits: shared(x, 1, bits, 0.8),
    "per token, least squares": lambda x, bits: fitted(x, 1, bits),
    "per token and 32 channels": groups,
    "channel-separable per token": separable,
    "per channel and page": lambda x, bits: shared(x, 0, bits),
    "per channel and page x 0.8": lambda x, bits: shared(x, 0, bits, 0.8),
    "per channel and page, least squares": lambda x, bits: fitted(x, 0, bits),
}


def by_page(x, scheme, bits):
    return np.concatenate([scheme(x[i : i + PAGE], bits) for i in range(0, len(x), PAGE)])


for name, heads in (("demo model", list(demo())), ("Qwen-like outliers", list(outliers()))):
    heads = [[x[: len(x) // PAGE * PAGE] for x in head] for head in heads]
    heads = [(q[-64:], bf16(k), bf16(v)) for q, k, v in heads]
    for bits in (4, 2):
        print(f"{f'{name}, {bits} bits':38s} {'keys':>6s} {'values':>6s}")
        for label, scheme in SCHEMES.items():
            errors = []
            for part in ("keys", "values"):
                wrong = size = 0.0
                for q, k, v in heads:
                    exact = attend(q, k, v)
                    k, v = (by_page(k, scheme, bits), v) if part == "keys" else (k, by_page(v, scheme, bits))
                    wrong += ((attend(q, k, v) - exact) ** 2).sum()
                    size += (exact**2).sum()
                errors.append(np.sqrt(wrong / size))
            print(f"  {label:36s} {errors[0]:6.3f} {errors[1]:6.3f}")
