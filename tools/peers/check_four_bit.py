#!/usr/bin/env python3
"""Trains on the tiny folders at 4 bits (bitsandbytes, GPTQ, AWQ) and opens what was exported with the
programs that others use: the widened model and the merged folder in transformers, the adapter in PEFT on
the widened model (the 16-bit original of a quantized folder), the GGUF file in llama.cpp. What the
widened model must compute is in tests/golden/models/four_bit, by the libraries that wrote the folders.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_four_bit.py [--retort build/release/retort]

Exits 1 when something differs by more than it may.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import llama_cpp
import numpy as np
import peft
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "models" / "four_bit"
parser = argparse.ArgumentParser()
parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
options = parser.parse_args()
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)
failures = []


def report(what, value, most):
    print(
        f"{'ok  ' if value <= most else 'FAIL'} {what}: {value:.2e} of the largest logit, at most {most:g}",
        flush=True,
    )
    if not value <= most:
        failures.append(what)


def retort(*arguments):
    done = subprocess.run([options.retort, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"retort {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def with_tokenizer(source, folder):
    """A token a byte: llama.cpp and retort want a tokenizer."""
    shutil.copytree(source, folder)
    vocabulary = {
        name: i
        for i, name in enumerate(
            ["<pad>", "<s>", "</s>", "Ġ"] + [chr(c) for c in range(ord("!"), ord("!") + 91)] + ["!!"]
        )
    }
    added = [
        {
            "id": i,
            "content": name,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, name in enumerate(["<pad>", "<s>", "</s>"])
    ]
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": added,
                "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
                "model": {"type": "BPE", "vocab": vocabulary, "merges": ["! !"]},
            }
        )
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    )
    return folder


def base_model(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def llama_logits(file, ids):
    model = llama_cpp.Llama(
        str(file),
        n_ctx=64,
        n_batch=64,
        logits_all=True,
        verbose=False,
        n_threads=1,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
    )
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def distance(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


RECIPE = """model: {{path: {base}, compute: f32, schedule: {schedule}}}
data:
  sources: [{{path: {samples}, prompt: "{{q}}", completion: "{{a}}"}}]
  template: plain
  held_out: {{count: 2}}
adapter: {{kind: {kind}, rank: 4, alpha: 8, targets: [all]}}
train:
  {{steps: 4, seed: 1, threads: 1, batch: {{samples: 4, row_tokens: 256}},
   optimizer: {{learning_rate: 1.0e-2}}}}
eval: {{tasks: [{{kind: perplexity}}]}}
export: {{adapter: true, merged: f32, gguf: [F32]}}
run: {{folder: {run}}}
"""

with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    samples = scratch / "samples.jsonl"
    samples.write_text(
        "".join(
            json.dumps({"q": f"the {word} of a hive ", "a": f"is {word[::-1]}"}) + "\n"
            for word in (
                "queen",
                "brood",
                "frame",
                "smoke",
                "honey",
                "wax",
                "floor",
                "crown",
                "drone",
                "swarm",
            )
        )
    )
    for method in ("bitsandbytes", "gptq", "awq"):
        golden = load_file(GOLDEN / method / "golden.safetensors")
        ids = golden["ids"].tolist()
        base = with_tokenizer(GOLDEN / method, scratch / method)
        wide = scratch / f"{method}-wide"
        retort("export", "--model", base, "-o", wide, "--merged", "f32", "--gguf", "F32", "--no-compare")
        assert "quantization_config" not in json.loads((wide / "merged/config.json").read_text())
        report(
            f"{method}: widened, in transformers",
            distance(logits(base_model(wide / "merged"), ids), golden["logits"].numpy()),
            1e-5,
        )
        report(
            f"{method}: widened, in llama.cpp",
            distance(llama_logits(wide / "model-F32.gguf", ids), golden["logits"].numpy()),
            1e-4,
        )
        for kind, schedule in (("lora", "tokens"), ("rslora", "layers, memory: 1MiB"), ("dora", "tokens")):
            run = scratch / f"{method}-{kind}"
            recipe = scratch / f"{method}-{kind}.yaml"
            recipe.write_text(
                RECIPE.format(base=base, schedule=schedule, samples=samples, kind=kind, run=run)
            )
            retort("check", recipe)
            retort("run", recipe)
            expected = logits(
                peft.PeftModel.from_pretrained(base_model(wide / "merged"), run / "export/adapter"), ids
            )
            assert distance(expected, golden["logits"].numpy()) > 1e-3  # it learned something
            report(
                f"{method} {kind}: merged folder in transformers",
                distance(logits(base_model(run / "export/merged"), ids), expected),
                1e-5,
            )
            report(
                f"{method} {kind}: file in llama.cpp",
                distance(llama_logits(next(run.glob("export/*F32.gguf")), ids), expected),
                1e-4,
            )

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
