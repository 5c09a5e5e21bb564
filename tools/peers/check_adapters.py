#!/usr/bin/env python3
"""Exports adapters without a run (`retort export --model --adapter`) and opens what was written with the
programs that others use: the adapters with rank and alpha patterns and the weighted sum in PEFT, merged
folders in transformers, GGUF files and the GGUF adapter in llama.cpp. All are compared with PEFT's own sum of
the same adapters (add_weighted_adapter, "cat"), which retort has no part in.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_adapters.py [--retort build/release/retort]

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
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
parser = argparse.ArgumentParser()
parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
options = parser.parse_args()
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)
TOKENS = [1, 17, 42, 9, 80, 3, 61, 25]
failures = []


def report(what, value, most):
    print(
        f"{'ok  ' if value <= most else 'FAIL'} {what}: {value:.2e} of the largest logit, at most {most:g}",
        flush=True,
    )
    if not value <= most:
        failures.append(what)


def retort(*arguments):
    done = subprocess.run([options.retort, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"retort {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")


def tiny_base(folder):
    """The golden Llama with a token a byte: llama.cpp and retort want a tokenizer."""
    shutil.copytree(GOLDEN / "models" / "llama", folder)
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


def logits(model):
    with torch.no_grad():
        return model(torch.tensor([TOKENS])).logits[0].numpy()


def llama_logits(file, adapter=None):
    model = llama_cpp.Llama(
        str(file),
        n_ctx=64,
        n_batch=64,
        logits_all=True,
        verbose=False,
        n_threads=1,
        type_k=llama_cpp.GGML_TYPE_F32,
        type_v=llama_cpp.GGML_TYPE_F32,
        lora_path=str(adapter) if adapter else None,
    )
    model.eval(TOKENS)
    return np.array(model.scores[: len(TOKENS)])


def distance(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    base = tiny_base(scratch / "base")
    patterns, rslora = GOLDEN / "adapters" / "patterns", GOLDEN / "adapters" / "rslora"
    theirs = peft.PeftModel.from_pretrained(base_model(base), patterns, adapter_name="patterns")
    alone = logits(theirs)
    theirs.load_adapter(rslora, adapter_name="rslora")
    theirs.add_weighted_adapter(["patterns", "rslora"], [0.7, -0.3], "weighted", combination_type="cat")
    theirs.set_adapter("weighted")
    weighted = logits(theirs)

    for what, adapters, expected in (
        ("one with patterns", [patterns], alone),
        ("a weighted sum", [f"{patterns}=0.7", f"{rslora}=-0.3"], weighted),
    ):
        out = scratch / what.replace(" ", "-")
        retort(
            "export",
            "--model",
            base,
            *(word for adapter in adapters for word in ("--adapter", adapter)),
            "-o",
            out,
            "--merged",
            "f32",
            "--gguf",
            "F32",
            "--peft",
            "--gguf-adapter",
            "--threads",
            1,
        )
        report(
            f"{what}: the adapter in PEFT",
            distance(logits(peft.PeftModel.from_pretrained(base_model(base), out / "adapter")), expected),
            1e-5,
        )
        report(
            f"{what}: the merged folder in transformers",
            distance(logits(base_model(out / "merged")), expected),
            1e-5,
        )
        report(
            f"{what}: the file in llama.cpp", distance(llama_logits(out / "model-F32.gguf"), expected), 1e-4
        )
        plain = scratch / "plain"
        if not plain.exists():
            retort("export", "--model", base, "-o", plain, "--gguf", "F32", "--no-compare")
        report(
            f"{what}: the adapter in llama.cpp",
            distance(llama_logits(plain / "model-F32.gguf", out / "adapter.gguf"), expected),
            1e-4,
        )

print(f"{len(failures)} failures")
sys.exit(1 if failures else 0)
