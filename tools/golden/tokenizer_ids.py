#!/usr/bin/env python3
"""Ids of hard strings from the reference tokenizers, for tests/text. Writes tests/golden/tokenizers/*.json.gz.

Run: third_party/peers/bin/python tools/golden/tokenizer_ids.py [family ...]
Text that is not UTF-8: these references take only text, so they get bytes.decode("utf-8", "replace"), one U+FFFD for each
maximal subpart; SentencePiece takes bytes and gets them as they are.
as_text: special tokens are not parsed (encode_special_tokens / SentencePiece itself); as_tokens: they are.
"""
import gzip
import importlib.metadata
import json
import pathlib
import sys

import tokenizer_strings

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/tokenizers"
STRINGS = tokenizer_strings.hard_strings()
TEXTS = [data.decode("utf-8", "replace") for data in STRINGS]


def write(name: str, value: dict) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(name, (OUT / f"{name}.json.gz").stat().st_size, "bytes")


def versions(*packages: str) -> dict:
    return {package: importlib.metadata.version(package) for package in packages} | {"seed": tokenizer_strings.SEED}


def with_tokenizers(tokenizer) -> dict:
    """Ids from a tokenizers.Tokenizer, both ways."""
    ids = {}
    for key, as_text in (("as_text", True), ("as_tokens", False)):
        tokenizer.encode_special_tokens = as_text
        ids[key] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    tokenizer.encode_special_tokens = False
    ids["decoded"] = [tokenizer.decode(row, skip_special_tokens=True) for row in ids["as_tokens"]]
    return ids


def gguf_fields(path: pathlib.Path) -> dict:
    import gguf
    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}


def smollm2() -> None:
    # transformers' own conversion from GGUF leaves the split of digits out, so the published pre-tokenizer is put together here;
    # llama.cpp's tokenizer is asked as a second reference.
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    path = ROOT / "checkpoints/smollm2-135m-instruct-q4_1.gguf"
    fields = gguf_fields(path)
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"]) if kind == 3])
    ids = with_tokenizers(tokenizer)
    import llama_cpp
    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for special, key in ((False, "as_text"), (True, "as_tokens")):
        for text, row in zip(TEXTS, ids[key]):
            second = llama.tokenize(text.encode(), add_bos=False, special=special)
            if second != row and "\0" not in text:
                print("llama.cpp differs:", key, repr(text), row, second)
    write("smollm2", {"reference": "tokenizers, Digits(individual) + ByteLevel over the GGUF's vocabulary", "versions": versions("tokenizers")} | ids)


FAMILIES = {"smollm2": smollm2}

if __name__ == "__main__":
    write("strings", {"hex": [data.hex() for data in STRINGS], "seed": tokenizer_strings.SEED})
    for family in sys.argv[1:] or FAMILIES:
        FAMILIES[family]()
