#!/usr/bin/env python3
"""Tiny random checkpoints with logits by Hugging Face transformers, to compare a device with.

    golden-checkpoints.py FOLDER

For each architecture a folder in Hugging Face layout (bf16 safetensors) and golden.safetensors with
  input_ids  int32 [tokens]          one prompt
  logits     float32 [tokens, vocab] computed in float32 from the bf16 weights
  greedy     int32 [16]              the next 16 greedy tokens
Needs PyTorch and transformers 4 or 5. Fails if an architecture did, after trying the others.
"""

import pathlib
import sys
import traceback

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = dict(
    vocab_size=320,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=64,
    max_position_embeddings=512,
    rms_norm_eps=1e-6,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)

LLAMA3_ROPE = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=64,
)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64)

# Name: architecture, what differs from SIZES, RoPE.
CHECKPOINTS = {
    "llama": ("llama", {}, {}),
    "llama-mha-tied": ("llama", dict(num_key_value_heads=2, tie_word_embeddings=True), {}),
    "llama3-rope": ("llama", {}, dict(LLAMA3_ROPE, rope_theta=500000.0)),
    "llama-yarn": ("llama", {}, YARN),
    "mistral-window": ("mistral", dict(sliding_window=16), {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", {}, {}),
}


def rope_options(rope):
    rope = {"rope_type": "default", "rope_theta": 10000.0, **rope}
    if int(transformers.__version__.split(".")[0]) >= 5:
        return {"rope_parameters": rope}
    theta = rope.pop("rope_theta")
    return {"rope_theta": theta, "rope_scaling": None if rope["rope_type"] == "default" else rope}


def make(name, folder):
    kind, changes, rope = CHECKPOINTS[name]
    torch.manual_seed(1234)
    config = AutoConfig.for_model(kind, **{**SIZES, **changes, **rope_options(rope)})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():  # livelier than the usual start, so that mistakes show in the logits
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, 0.08)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    model = model.to(torch.float32).eval()
    ids = torch.randint(3, SIZES["vocab_size"], (1, 48))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0].float().contiguous()
        sequence = ids
        for _ in range(16):
            token = model(sequence, use_cache=False).logits[0, -1].argmax()
            sequence = torch.cat([sequence, token.view(1, 1)], 1)
    golden = {
        "input_ids": ids[0].to(torch.int32),
        "logits": logits,
        "greedy": sequence[0, ids.shape[1] :].to(torch.int32).contiguous(),
    }
    save_file(golden, folder / "golden.safetensors")
    print(f"{name}: logits up to {logits.abs().max():.2f}", flush=True)


def main(out):
    print(f"torch {torch.__version__}, transformers {transformers.__version__}", flush=True)
    failed = []
    for name in CHECKPOINTS:
        try:
            make(name, out / name)
        except Exception:
            failed.append(name)
            traceback.print_exc()
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
