#!/usr/bin/env python3
"""Ids of conversations as transformers' apply_chat_template gives them, for the tokenizers of tests/golden/
tokenizers that have a tokenizer.json and the template of their family. Writes tests/golden/chat/ids.json.

Run: third_party/peers/bin/python tools/golden/chat_ids.py   (after tokenizer_ids.py; trl has the templates)
"""
import gzip
import json
import pathlib

import chat
import jinja2
import tokenizers
import transformers
import trl

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/chat/ids.json"
# Tokenizer, template, BOS, EOS.
PAIRS = [
    ("qwen2", "qwen2.5", None, "<|im_end|>"),
    ("qwen2", "qwen2", None, "<|im_end|>"),
    ("qwen35", "chatml", None, "<|im_end|>"),
    ("dbrx", "chatml", None, "<|endoftext|>"),
    ("llama3", "llama3", "<|begin_of_text|>", "<|eot_id|>"),
    ("gemma", "gemma", "<bos>", "<eos>"),
    ("gemma", "gemma3", "<bos>", "<eos>"),
    ("phi3", "phi3", "<s>", "<|end|>"),
    ("llama2", "llama2", "<s>", "</s>"),
    ("metaspace", "mistral-v3", "<s>", "</s>"),
    ("tekken-json", "mistral-v3-tekken", "<s>", "</s>"),
]


def sources():
    folder = pathlib.Path(trl.__file__).parent / "chat_templates"
    texts = dict(chat.OWN)
    texts.update({name: (folder / f"{file}.jinja").read_text() for name, file in chat.TRL.items()})
    return texts


def main():
    texts = sources()
    rows = []
    for name, template, bos, eos in PAIRS:
        golden = json.loads(gzip.decompress((ROOT / f"tests/golden/tokenizers/{name}.json.gz").read_bytes()))
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer.from_str(golden["tokenizer_json"]),
            bos_token=bos,
            eos_token=eos,
            clean_up_tokenization_spaces=False,
        )

        def ids(messages, header):
            try:
                return tokenizer.apply_chat_template(
                    messages,
                    chat_template=texts[template],
                    tokenize=True,
                    return_dict=True,
                    add_generation_prompt=header,
                )["input_ids"]
            except jinja2.TemplateError:
                return None

        row = {"tokenizer": name, "template": template, "bos": bos, "eos": eos, "source": texts[template]}
        row["dialogues"] = []
        for dialogue in chat.DIALOGUES:
            messages = [{"role": role, "content": text} for role, text in dialogue]
            row["dialogues"].append({"ids": ids(messages, False), "prompt_ids": ids(messages[:-1], True)})
        rows.append(row)
        print(name, template, [one["ids"] and len(one["ids"]) for one in row["dialogues"]])
    golden = {
        "made_by": "tools/golden/chat_ids.py",
        "versions": {
            "transformers": transformers.__version__,
            "trl": trl.__version__,
            "jinja2": jinja2.__version__,
        },
        "dialogues": [
            [{"role": role, "content": text} for role, text in dialogue] for dialogue in chat.DIALOGUES
        ],
        "rows": rows,
    }
    OUT.write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
