"""What check_adapters.py and check_four_bit.py share: retort as it is called, the tiny models of tests/golden
with a tokenizer, and the logits that transformers and llama.cpp compute of what retort wrote."""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import llama_cpp
import numpy as np
import torch
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)
failures = []
parser = argparse.ArgumentParser()
parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
options = parser.parse_args()


def report(what, value, most):
    print(
        f"{'ok  ' if value <= most else 'FAIL'} {what}: {value:.2e} of the largest logit, at most {most:g}",
        flush=True,
    )
    if not value <= most:
        failures.append(what)


def end():
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


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


def llama_logits(file, ids, adapter=None):
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
    model.eval(ids)
    return np.array(model.scores[: len(ids)])


def distance(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
