#!/usr/bin/env python3
"""Times of PyTorch for the shapes that gpu-bench measures, by the same names.

    torch-baselines.py FILE.json [seconds]

SDPA reads K and V that lie in one piece, our kernels pages; torch.matmul multiplies bf16 weights, also where the report
sets it beside int8.
"""

import json
import sys
import time

import torch
from torch.nn.attention.bias import causal_lower_right

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN, VOCAB = 32, 8, 128, 4096, 14336, 128256
PREFILLS = ((8192, 0), (512, 0), (512, 8192), (512, 30000), (2048, 0), (2048, 8192), (2048, 30000))
MATRICES = {
    "qkv": ((HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN),
    "o": (HIDDEN, HIDDEN),
    "gate-up": (2 * FFN, HIDDEN),
    "down": (HIDDEN, FFN),
    "head": (VOCAB, HIDDEN),
}


def seconds_of(work, budget=0.15):
    """Median of at least five rounds of calls that take two milliseconds or more together."""

    def one_round(count):
        begin = time.perf_counter()
        for _ in range(count):
            work()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / count

    one_round(3)
    count = min(500, max(1, int(2e-3 / max(1e-6, one_round(2)))))
    rounds, end = [], time.perf_counter() + budget
    while len(rounds) < 5 or time.perf_counter() < end:
        rounds.append(one_round(count))
    return sorted(rounds)[len(rounds) // 2]


def random(*shape):
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


def attention(sequences, tokens):
    q = random(sequences, HEADS, 1, HEAD_DIM)
    k, v = random(sequences, KV_HEADS, tokens, HEAD_DIM), random(sequences, KV_HEADS, tokens, HEAD_DIM)
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def prefill(tokens, context):
    q = random(1, HEADS, tokens, HEAD_DIM)
    k, v = random(1, KV_HEADS, context + tokens, HEAD_DIM), random(1, KV_HEADS, context + tokens, HEAD_DIM)
    if context == 0:
        return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    mask = causal_lower_right(tokens, context + tokens)
    k, v = (x.repeat_interleave(HEADS // KV_HEADS, dim=1) for x in (k, v))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def matmul(rows, outputs, inputs):
    """As many weights in turn as exceed the caches together."""
    layers = [random(outputs, inputs) for _ in range(max(1, (256 << 20) // (2 * outputs * inputs)))]
    x, turn = random(rows, inputs), [0]

    def work():
        turn[0] += 1
        torch.matmul(x, layers[turn[0] % len(layers)].T)

    return work


def rows_of(name):
    """Those of gpu-bench."""
    if name == "head":
        return (1, 8, 16, 64)
    between = (192, 256, 257, 264, 320, 384, 512) if name == "gate-up" else (256, 512)
    return (1, 8, 16, 64, *between, 2048, 4096)


def cases():
    for sequences, tokens in ((64, 8192), (16, 2048), (1, 8192), (1, 32768)):
        yield f"decodeAttention bf16 {sequences} x {tokens}", lambda s=sequences, t=tokens: attention(s, t)
    for tokens, context in PREFILLS:
        yield f"prefillAttention bf16 {tokens} behind {context}", lambda a=(tokens, context): prefill(*a)
    for name, (outputs, inputs) in MATRICES.items():
        for rows in rows_of(name):
            yield f"matmul bf16 {name} {rows} x {outputs} x {inputs}", lambda a=(rows, outputs, inputs): matmul(*a)


def main():
    end = time.perf_counter() + float(sys.argv[2] if len(sys.argv) > 2 else 60)
    rows, failed = {}, {}
    for name, make in cases():
        if time.perf_counter() > end:
            failed[name] = "no time was left"
            continue
        try:
            rows[name] = seconds_of(make())
        except RuntimeError as error:
            failed[name] = str(error).splitlines()[0]
        torch.cuda.empty_cache()
    with open(sys.argv[1], "w") as file:
        json.dump({"version": torch.__version__, "seconds": rows, "failed": failed}, file, indent=1)


if __name__ == "__main__":
    main()
