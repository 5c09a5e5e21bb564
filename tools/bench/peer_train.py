#!/usr/bin/env python3
"""The peer's training of a recipe's samples (what tools/bench's recipe_samples prints): transformers + PEFT,
the same samples in the same order, rate by rate, and the same held-out questions afterwards. Prints one JSON
line.

A row a sample, padded to the longest of the step on the right, prompts masked by -100; the sum over
supervised tokens is divided once a step, as retort does. The weights are those of the same GGUF file,
widened.
"""
import argparse
import json
import math
import pathlib
import resource
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("samples", type=pathlib.Path)
parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
parser.add_argument("--held-out", type=int, default=10**9, help="questions to ask, from the first")
parser.add_argument("--max-tokens", type=int, default=16)
options = parser.parse_args()

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

import peer_model

head, *rest = [json.loads(line) for line in options.samples.open()]
steps = [line for line in rest if "step" in line]
held_out = [line for line in rest if "prompt" in line]
torch.manual_seed(head["seed"])
model = get_peft_model(
    peer_model.load(options.dtype),
    LoraConfig(
        r=head["rank"], lora_alpha=head["alpha"], target_modules=peer_model.LINEARS, task_type="CAUSAL_LM"
    ),
)
trainable = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(
    trainable, lr=0, betas=tuple(head["betas"]), eps=head["epsilon"], weight_decay=head["weight_decay"]
)
PAD = 0


def batch(samples):
    length = max(len(sample["tokens"]) for sample in samples)
    ids = torch.full((len(samples), length), PAD)
    labels = torch.full((len(samples), length), -100)
    mask = torch.zeros((len(samples), length), dtype=torch.long)
    for i, sample in enumerate(samples):
        tokens = torch.tensor(sample["tokens"])
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        labels[i, : len(tokens)] = torch.where(torch.tensor(sample["weights"]) > 0, tokens, -100)
    return ids, mask, labels


def nats(samples):
    """Sum of the loss and its count of tokens; the head runs over supervised rows only, a favour to the
    peer."""
    ids, mask, labels = batch(samples)
    hidden = model.base_model.model.model(input_ids=ids, attention_mask=mask).last_hidden_state[:, :-1]
    wanted = labels[:, 1:] != -100
    logits = model.base_model.model.lm_head(hidden[wanted]).float()
    return torch.nn.functional.cross_entropy(logits, labels[:, 1:][wanted], reduction="sum"), int(
        wanted.sum()
    )


def held_out_loss():
    model.eval()
    total = count = 0
    with torch.no_grad():
        for begin in range(0, len(held_out), 32):
            part, tokens = nats(held_out[begin : begin + 32])
            total, count = total + part.item(), count + tokens
    return total / count


tokenizer = AutoTokenizer.from_pretrained(peer_model.folder())


def answers():
    """Greedy answers, 32 prompts a batch, padded on the left."""
    model.eval()
    texts = []
    asked = held_out[: options.held_out]
    with torch.no_grad():
        for begin in range(0, len(asked), 32):
            prompts = [line["prompt"] for line in asked[begin : begin + 32]]
            length = max(map(len, prompts))
            ids = torch.tensor([[PAD] * (length - len(prompt)) + prompt for prompt in prompts])
            mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            out = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=options.max_tokens,
                do_sample=False,
                eos_token_id=head["eos"],
                pad_token_id=PAD,
            )
            texts += [tokenizer.decode(row[length:], skip_special_tokens=True) for row in out]
    return texts


before = held_out_loss()
losses, tokens, supervised = [], 0, 0
model.train()
started = time.time()
for line in steps:
    for group in optimizer.param_groups:
        group["lr"] = line["rate"]
    loss, count = nats(line["samples"])
    (loss / count).backward()
    torch.nn.utils.clip_grad_norm_(trainable, head["clip_norm"] or math.inf)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item() / count)
    tokens += sum(len(sample["tokens"]) for sample in line["samples"])
    supervised += count
    if len(losses) % 10 == 0:
        print(
            f"step {len(losses)} of {len(steps)}: loss {sum(losses[-10:]) / 10:.3f}, "
            f"{time.time() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
seconds = time.time() - started
after = held_out_loss()
texts = answers()
letter = lambda text: text.strip()[:1]
expected = [line["expected"] for line in held_out]
print(
    json.dumps(
        {
            "dtype": options.dtype,
            "steps": len(losses),
            "losses": losses,
            "held_out_before": before,
            "held_out_after": after,
            "asked": len(texts),
            "exact_match": sum(a.strip() == b.strip() for a, b in zip(texts, expected)) / max(1, len(texts)),
            "first_letter": sum(letter(a) == letter(b) != "" for a, b in zip(texts, expected))
            / max(1, len(texts)),
            "seconds": seconds,
            "samples_per_s": sum(len(line["samples"]) for line in steps) / seconds,
            "tokens_per_s": tokens / seconds,
            "supervised": supervised,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
