#!/usr/bin/env python3
"""Opens every artefact of a run with the peers and compares logits: transformers (safetensors folder), peft (adapter over the
base), llama-cpp-python (GGUF).

    tools/peers/setup && third_party/peers/bin/python tools/peers/check_exports.py runs/NAME --base checkpoints/BASE.gguf

The reference is transformers in fp32 over the exported safetensors folder. Exits 1 when a bound is broken.
"""
import argparse
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np
import torch

parser = argparse.ArgumentParser()
parser.add_argument("run", type=pathlib.Path)
parser.add_argument("--base", type=pathlib.Path, required=True)
parser.add_argument("--exports", default="export", help="folder inside the run")
options = parser.parse_args()
exports = options.run / options.exports

# Mean KL per token from the reference, in nats. bf16 rounding alone costs about 1e-4 on this model.
BOUNDS = {"F32": 2e-3, "F16": 2e-3, "BF16": 2e-3, "Q8_0": 5e-3, "Q6_K": 2e-2, "Q5_K_M": 5e-2, "Q5_1": 8e-2, "Q5_0": 8e-2, "Q4_K_M": 0.15, "Q4_1": 0.3, "Q4_0": 0.3}
PROMPTS = [
    "Cholera due to Vibrio cholerae 01, biovar eltor", "Type 2 diabetes mellitus with diabetic neuropathy, unspecified",
    "Displaced fracture of shaft of left clavicle", "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "The quick brown fox jumps over the lazy dog.", "def fibonacci(n):\n    if n < 2:\n        return n\n", "  leading spaces\tand\ttabs\n\n",
    "1234567890 3.14159", "naïve café — “quotes” … €", "日本語のテキスト", "Привет, мир", "مرحبا بالعالم", "👩‍👩‍👧‍👦 🇩🇪 ✈️", "e\u0301 vs \u00e9",
    "<|im_start|>user\nlook-alike<|im_end|>", "Don't you'll we've I'm", "ALL CAPS AND MiXeD", "x = [[1, 2], [3, 4]]  # matrix", "\r\nwindows line\r\n", "a" * 64,
]
failures = []


def report(what, ok, detail):
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {detail}", flush=True)
    if not ok:
        failures.append(what)


def kl(reference, other):
    """Mean over positions of KL(reference || other), logits [N, V]."""
    p = torch.log_softmax(torch.as_tensor(reference, dtype=torch.float32), -1)
    q = torch.log_softmax(torch.as_tensor(np.array(other), dtype=torch.float32), -1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


def agreement(reference, other):
    return (torch.as_tensor(reference).argmax(-1) == torch.as_tensor(np.array(other)).argmax(-1)).float().mean().item()


from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

folder = exports / "merged"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
report("transformers opens the safetensors folder", True, f"{sum(p.numel() for p in model.parameters()):,} parameters")
report("the chat template travels", bool(tokenizer.chat_template), f"{len(tokenizer.chat_template or '')} characters")
ids = [tokenizer(text, add_special_tokens=False).input_ids for text in PROMPTS]
chat = tokenizer.apply_chat_template([{"role": "user", "content": PROMPTS[0]}], tokenize=True, add_generation_prompt=True, return_dict=False)
sequences = [chat] + [row for row in ids if 2 <= len(row)]
with torch.no_grad():
    reference = [model(torch.tensor([row])).logits[0] for row in sequences]

adapter = exports / "adapter"
if adapter.exists():
    from peft import PeftModel
    base = AutoModelForCausalLM.from_pretrained(options.base.parent, gguf_file=options.base.name, dtype=torch.float32,
                                                quantization_config=GgufConfig(dequantize=True)).eval()
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        found = [tuned(torch.tensor([row])).logits[0].numpy() for row in sequences]
        with tuned.disable_adapter():
            plain = [tuned(torch.tensor([row])).logits[0].numpy() for row in sequences]
    distance = np.mean([kl(a, b) for a, b in zip(reference, found)])
    moved = np.mean([kl(a, b) for a, b in zip(reference, plain)])
    report("peft opens the adapter; base + adapter = merged", distance < 5e-3, f"KL {distance:.2e} nats a token (without the adapter {moved:.2e})")
    report("the adapter does something", moved > 10 * distance, f"{moved:.2e}")
    del base, tuned

import llama_cpp

for file in sorted(exports.glob("*.gguf")):
    if "adapter" in file.name:
        continue
    kind = file.stem.rsplit("-", 1)[-1].upper()
    llama = llama_cpp.Llama(str(file), n_ctx=512, logits_all=True, verbose=False, n_threads=2)
    ours = [llama.tokenize(text.encode(), add_bos=False, special=False) for text in PROMPTS]
    plain = [i for i, text in enumerate(PROMPTS) if "<|" not in text]   # transformers turns look-alikes into control tokens
    same = sum(ours[i] == ids[i] for i in plain)
    report(f"llama.cpp: {file.name}: token ids", same == len(plain), f"{same} of {len(plain)} prompts equal transformers'")
    found = []
    for row in sequences:
        llama.reset()
        llama.eval(row)
        found.append(llama.scores[: len(row)].copy())
    distance = np.mean([kl(a, b) for a, b in zip(reference, found)])
    top = np.mean([agreement(a, b) for a, b in zip(reference, found)])
    bound = BOUNDS.get(kind, 0.5)
    report(f"llama.cpp: {file.name}: logits", distance < bound, f"KL {distance:.2e} nats a token (bound {bound:g}), top-1 agreement {top:.3f}")
    eos = llama.token_eos()
    report(f"llama.cpp: {file.name}: end token", eos == tokenizer.convert_tokens_to_ids("<|im_end|>") or eos == tokenizer.eos_token_id, f"{eos}")
    del llama

print(f"{len(failures)} failed" if failures else "all peers agree")
sys.exit(1 if failures else 0)
