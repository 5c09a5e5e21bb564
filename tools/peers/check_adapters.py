#!/usr/bin/env python3
"""Exports adapters without a run (`retort export --model --adapter`) and opens what was written with the
programs that others use: the adapters with rank and alpha patterns and the weighted sum in PEFT, merged
folders in transformers, GGUF files and the GGUF adapter in llama.cpp. All are compared with PEFT's own sum
of the same adapters (add_weighted_adapter, "cat"), which retort has no part in. The same with PEFT's
adapters of embedding, head and single tokens' rows, and with a run that adds tokens to its base: PEFT on the
base that transformers enlarged, the merged folder and the GGUF file must compute one model.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_adapters.py [--retort build/release/retort]

Exits 1 when something differs by more than it may.
"""
import json
import pathlib
import tempfile

import llama_cpp
import peft
import tiny_models
from tiny_models import GOLDEN, base_model, distance, end, llama_logits, report, retort, with_tokenizer
from transformers import AutoTokenizer

TOKENS = [1, 17, 42, 9, 80, 3, 61, 25]


def tiny_base(folder, family="llama"):
    return with_tokenizer(GOLDEN / "models" / family, folder)


def logits(model, tokens=TOKENS):
    return tiny_models.logits(model, tokens)


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
            f"{what}: the file in llama.cpp",
            distance(llama_logits(out / "model-F32.gguf", TOKENS), expected),
            1e-4,
        )
        plain = scratch / "plain"
        if not plain.exists():
            retort("export", "--model", base, "-o", plain, "--gguf", "F32", "--no-compare")
        report(
            f"{what}: the adapter in llama.cpp",
            distance(llama_logits(plain / "model-F32.gguf", TOKENS, out / "adapter.gguf"), expected),
            1e-4,
        )

    for adapter in sorted((GOLDEN / "embedding_adapters").glob("*_*")):
        family, case = adapter.name.split("_", 1)
        base = scratch / f"base-{family}"
        if not base.exists():
            tiny_base(base, family)
        expected = logits(peft.PeftModel.from_pretrained(base_model(base), adapter))
        # Of a tied base one tensor of a GGUF file is both, and llama.cpp's Gemma has no other head.
        untied = family == "gemma3" and not case.startswith("tokens")
        in_gguf = [] if untied else ["--gguf", "F32"]
        in_adapter = ["--gguf-adapter"] if adapter.name in ("llama_low_rank", "llama_embedding") else []
        out = scratch / adapter.name
        retort(
            "export",
            "--model",
            base,
            "--adapter",
            adapter,
            "-o",
            out,
            "--merged",
            "f32",
            "--peft",
            *in_gguf,
            *in_adapter,
            "--threads",
            1,
        )
        report(
            f"{adapter.name}: the adapter in PEFT",
            distance(logits(peft.PeftModel.from_pretrained(base_model(base), out / "adapter")), expected),
            1e-5,
        )
        report(
            f"{adapter.name}: the merged folder in transformers",
            distance(logits(base_model(out / "merged")), expected),
            1e-5,
        )
        if in_gguf:
            report(
                f"{adapter.name}: the file in llama.cpp",
                distance(llama_logits(out / "model-F32.gguf", TOKENS), expected),
                # llama.cpp looks Gemma's GELU up in a table of 16-bit floats, as family_matrix.py says.
                5e-3 if family == "gemma3" else 1e-4,
            )
        if in_adapter:
            report(
                f"{adapter.name}: the adapter in llama.cpp",
                distance(
                    llama_logits(scratch / "plain/model-F32.gguf", TOKENS, out / "adapter.gguf"), expected
                ),
                1e-4,
            )

    # Tokens that the base lacks: of a tied base and of one whose head is another matrix.
    for family in ("llama", "qwen2"):
        base, out = scratch / f"added-{family}", scratch / f"run-{family}"
        tiny_base(base, family)
        texts = scratch / "samples.jsonl"
        texts.write_text("".join(json.dumps({"text": f"{i}law{7 * i}is{i}"}) + "\n" for i in range(12)))
        recipe = scratch / f"{family}.yaml"
        recipe.write_text(
            f"""model: {{path: {base}, compute: f32, add_tokens: ["<|law|>"], add_words: [law]}}
data: {{sources: [{{path: {texts}}}], template: plain, loss: all, held_out: {{count: 3}}}}
adapter: {{rank: 2, targets: [q_proj, down_proj]}}
train: {{steps: 6, threads: 1, batch: {{samples: 4}}, optimizer: {{learning_rate: 0.05}}}}
export: {{adapter: true, merged: f32, gguf: [F32]}}
run: {{folder: {out}}}
"""
        )
        retort("run", recipe)
        tokenizer = AutoTokenizer.from_pretrained(out / "export/adapter")
        special, word = tokenizer.convert_tokens_to_ids(["<|law|>", "law"])
        tokens = [1, special, 42, word, 9, 80, word]
        model = base_model(base)
        model.resize_token_embeddings(len(tokenizer))
        ours = logits(peft.PeftModel.from_pretrained(model, out / "export/adapter"), tokens)
        merged = base_model(out / "export/merged")
        report(
            f"added tokens, {family}: the merged folder against the adapter in PEFT",
            distance(logits(merged, tokens), ours),
            1e-5,
        )
        report(
            f"added tokens, {family}: the file in llama.cpp",
            distance(llama_logits(out / "export/model-F32.gguf", tokens), ours),
            1e-4,
        )
        rows = merged.get_input_embeddings().weight.detach()
        old = base_model(base).get_input_embeddings().weight.detach()
        same = (
            float((rows[: len(old)] - old).abs().max()) == 0
            and float((rows[word] - old.mean(0)).abs().max()) > 1e-3
        )
        ids = AutoTokenizer.from_pretrained(out / "export/merged").encode(
            "a<|law|>law!", add_special_tokens=False
        )
        vocabulary = llama_cpp.Llama(str(out / "export/model-F32.gguf"), vocab_only=True, verbose=False)
        theirs = vocabulary.tokenize(b"a<|law|>law!", add_bos=False, special=True)
        report(f"added tokens, {family}: only their rows have moved", 0.0 if same else 1.0, 0)
        report(
            f"added tokens, {family}: ids {ids} in transformers, {theirs} in llama.cpp",
            0.0 if ids == theirs and special in ids and word in ids else 1.0,
            0,
        )

end()
