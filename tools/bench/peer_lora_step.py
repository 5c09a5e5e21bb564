#!/usr/bin/env python3
"""One setting of the peer: LoRA rank 16 on every linear layer of SmolLM2-135M with transformers + PEFT (or
full fine-tuning).

Prints one JSON line: tokens/s (median step after the first; with --steps 0 the first), peak resident memory,
seconds from process start to the end of the first step.
"""
import argparse
import json
import os
import resource
import statistics
import time

started = time.time()
parser = argparse.ArgumentParser()
parser.add_argument("--dtype", choices=["bf16", "fp32", "nf4"], default="bf16")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--length", type=int, default=512)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--kind", choices=["lora", "full"], default="lora")
parser.add_argument("--compile", action="store_true")
parser.add_argument("--checkpoint", action="store_true", help="gradient checkpointing")
options = parser.parse_args()

import torch

import peer_model

torch.manual_seed(0)
model = peer_model.load(options.dtype)
if options.kind == "lora":
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules=peer_model.LINEARS, task_type="CAUSAL_LM")
    )
model.train()
if options.checkpoint:
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
if options.compile:
    model = torch.compile(model)
trainable = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trainable, lr=1e-4)
ids = torch.randint(100, 40000, (options.rows, options.length))

seconds, first = [], None
for step in range(options.steps + 1):
    begin = time.time()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    seconds.append(time.time() - begin)
    if first is None:
        first = time.time() - started
print(
    json.dumps(
        {
            "dtype": options.dtype,
            "malloc": "tuned" if os.environ.get("MALLOC_TRIM_THRESHOLD_") else "plain",
            "compile": options.compile,
            "checkpoint": options.checkpoint,
            "kind": options.kind,
            "tokens_per_s": options.rows * options.length / statistics.median(seconds[1:] or seconds),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "first_step_s": first,
            "loss": loss.item(),
        }
    )
)
