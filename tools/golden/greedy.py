#!/usr/bin/env python3
"""Greedy continuations of SmolLM2-135M-Instruct by transformers in fp32, read from the same GGUF file.

Writes tests/golden/models/smollm2_greedy.json: 20 prompts x 32 tokens, and the next-token loss of each
prompt.
Run with the peers' Python: third_party/peers/bin/python tools/golden/greedy.py
"""
import hashlib
import json
import pathlib

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = "smollm2-135m-instruct-q4_1.gguf"
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n",
    "Once upon a time, in a small village,",
    "Water boils at",
    "The patient was diagnosed with",
    "Permission is hereby granted, free of charge,",
    "1, 2, 3, 4,",
    "Roses are red, violets are",
    "In 1969, the first human",
    "The derivative of x^2 is",
    "<|im_start|>user\nWhat is photosynthesis?<|im_end|>\n<|im_start|>assistant\n",
    "To make an omelette, first",
    "SELECT name FROM",
    "Dear Sir or Madam,",
    "The three laws of motion are",
    "Type 2 diabetes mellitus without",
    "import numpy as np\n",
    "Le chat est sur la",
    "The quick brown fox",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
]

torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(
    ROOT / "checkpoints", gguf_file=FILE, dtype=torch.float32
).eval()
tokenizer = transformers.AutoTokenizer.from_pretrained(ROOT / "checkpoints", gguf_file=FILE)
record = {
    "transformers": transformers.__version__,
    "torch": torch.__version__,
    "file": FILE,
    "sha256": hashlib.sha256((ROOT / "checkpoints" / FILE).read_bytes()).hexdigest(),
    "runs": [],
}
with torch.no_grad():
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        loss = model(ids, labels=ids).loss.item()
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=32, min_new_tokens=32, do_sample=False
        )[0, ids.shape[1] :]
        record["runs"].append(
            {"prompt": prompt, "ids": ids[0].tolist(), "loss": loss, "greedy": out.tolist()}
        )
(ROOT / "tests" / "golden" / "models" / "smollm2_greedy.json").write_text(json.dumps(record, indent=0) + "\n")
