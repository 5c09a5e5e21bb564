#!/usr/bin/env python3
"""Optimizer updates by torch.optim, and whole training steps by PEFT on the tiny llama, in fp32.

Writes tests/golden/train/{optimizers,peft_steps}.safetensors and peft_steps.json.
Run with the peers' Python: third_party/peers/bin/python tools/golden/train_steps.py
"""
import json
import pathlib

import peft
import torch
import transformers
from safetensors.torch import save_file

SEED = 11
TESTS = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
ROOT = TESTS / "train"
VERSIONS = {
    "seed": str(SEED),
    "peft": peft.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
ROOT.mkdir(parents=True, exist_ok=True)


def optimizers():
    """Four updates of a matrix and a vector; decoupled decay of the matrix alone, as two parameter groups."""
    torch.manual_seed(SEED)
    matrix, vector = torch.randn(7, 9), torch.randn(13)
    gradients = [(torch.randn(7, 9), torch.randn(13)) for _ in range(4)]
    tensors = {"matrix": matrix, "vector": vector}
    for i, (a, b) in enumerate(gradients):
        tensors |= {f"gradient.{i}.matrix": a, f"gradient.{i}.vector": b}
    makers = {
        "adamw": lambda a, b: torch.optim.AdamW(
            [{"params": [a], "weight_decay": 0.1}, {"params": [b], "weight_decay": 0.0}],
            lr=0.01,
            betas=(0.9, 0.95),
            eps=1e-8,
        ),
        "sgd": lambda a, b: torch.optim.SGD([a, b], lr=0.01, momentum=0.9),
    }
    for name, make in makers.items():
        a, b = matrix.clone().requires_grad_(), vector.clone().requires_grad_()
        optimizer = make(a, b)
        for i, (da, db) in enumerate(gradients):
            a.grad, b.grad = da.clone(), db.clone()
            optimizer.step()
            tensors |= {f"{name}.{i}.matrix": a.detach().clone(), f"{name}.{i}.vector": b.detach().clone()}
    save_file(tensors, ROOT / "optimizers.safetensors", metadata=VERSIONS)


def peft_steps():
    """Three steps over the same four samples: mean over all supervised tokens, clipping, AdamW with decay,
    linear schedule by hand."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        TESTS / "models" / "llama", dtype=torch.float32, attn_implementation="eager"
    )
    torch.manual_seed(SEED)
    model = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=4, lora_alpha=6, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
        ),
    )
    generator = torch.Generator().manual_seed(SEED)
    prompt = torch.randint(3, 96, (6,), generator=generator).tolist()
    rows, firsts = [], []
    for length, shared in ((9, True), (14, True), (5, False), (21, False)):
        row = torch.randint(3, 96, (length,), generator=generator).tolist()
        rows.append(prompt + row if shared else row)
        firsts.append(len(prompt) + 2 if shared else 1)  # the first supervised token
    trainables = {name: p for name, p in model.named_parameters() if p.requires_grad}
    tensors = {}
    with torch.no_grad():
        for name, p in trainables.items():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
            tensors["start." + name.replace(".default", "")] = p.detach().clone()
    optimizer = torch.optim.AdamW(
        trainables.values(), lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05
    )
    record = {
        "rows": rows,
        "first_supervised": firsts,
        "clip_norm": 0.5,
        "learning_rates": [0.02, 0.02 * 2 / 3, 0.02 / 3],
        "losses": [],
        "norms": [],
        "versions": VERSIONS,
    }
    for step, rate in enumerate(record["learning_rates"]):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        nats, count = 0.0, 0
        for row, first in zip(rows, firsts):
            logits = model(torch.tensor([row])).logits[0]
            nats = nats + torch.nn.functional.cross_entropy(
                logits[first - 1 : -1], torch.tensor(row[first:]), reduction="sum"
            )
            count += len(row) - first
        (nats / count).backward()
        record["losses"].append(nats.item() / count)
        record["norms"].append(
            torch.nn.utils.clip_grad_norm_(trainables.values(), record["clip_norm"]).item()
        )
        optimizer.step()
        if step != 1:
            tensors |= {
                f"after.{step + 1}." + name.replace(".default", ""): p.detach().clone()
                for name, p in trainables.items()
            }
    save_file(
        {k: v.contiguous() for k, v in tensors.items()}, ROOT / "peft_steps.safetensors", metadata=VERSIONS
    )
    (ROOT / "peft_steps.json").write_text(json.dumps(record) + "\n")


optimizers()
peft_steps()
