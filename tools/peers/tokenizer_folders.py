#!/usr/bin/env python3
"""Opens the tokenizer folders that text_test exported (build/*/tokenizers/*) with transformers and compares
ids with the goldens, special tokens as text and as tokens. Run: third_party/peers/bin/python
tools/peers/tokenizer_folders.py build/dev/tokenizers
"""
import gzip
import json
import pathlib
import sys

from transformers import AutoTokenizer

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/tokenizers"


def load(name: str) -> dict:
    return json.loads(gzip.decompress((GOLDEN / f"{name}.json.gz").read_bytes()))


def main(root: pathlib.Path) -> int:
    strings = [bytes.fromhex(text) for text in load("strings")["hex"]]
    failures = folders = 0
    for folder in sorted(root.iterdir()):
        stored = load(folder.name)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        folders += 1
        for key in ("as_text", "as_tokens"):
            if key not in stored:
                continue
            different = compared = 0
            for data, row in zip(strings, stored[key]):
                try:
                    text = data.decode()
                except UnicodeDecodeError:
                    continue
                # SentencePiece itself never parses "<unk>"; transformers always does.
                if row is None or (folder.name.startswith("mistral") and "<unk>" in text):
                    continue
                compared += 1
                different += (
                    tokenizer(text, add_special_tokens=False, split_special_tokens=key == "as_text")[
                        "input_ids"
                    ]
                    != row
                )
            failures += different
            print(f"{folder.name:12} {key:10} {compared} strings, {different} different")
    if folders == 0:
        print(f"{root}: no folders; run text_test first")
    return 1 if failures or not folders else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "build/dev/tokenizers")))
