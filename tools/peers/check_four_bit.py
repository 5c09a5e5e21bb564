#!/usr/bin/env python3
"""Trains on the tiny folders at 4 bits (bitsandbytes, GPTQ, AWQ, MXFP4, NVFP4) and opens what was exported
with the programs that others use: the widened model and the merged folder in transformers, the adapter in
PEFT on the widened model (the 16-bit original of a quantized folder), the GGUF file in llama.cpp. What the
widened model must compute is in tests/golden/models/four_bit, by the libraries that wrote the folders.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_four_bit.py [--retort build/release/retort]

Exits 1 when something differs by more than it may.
"""
import json
import pathlib
import tempfile

import peft
from safetensors.torch import load_file
from tiny_models import (
    GOLDEN,
    base_model,
    distance,
    end,
    llama_logits,
    logits,
    report,
    retort,
    with_tokenizer,
)

FOLDERS = GOLDEN / "models/four_bit"
RECIPE = """model: {{path: {base}, compute: f32, schedule: {schedule}}}
data:
  sources: [{{path: {samples}, prompt: "{{q}}", completion: "{{a}}"}}]
  template: plain
  held_out: {{count: 2}}
adapter: {{kind: {kind}, rank: 4, alpha: 8, targets: [all]}}
train:
  {{steps: 4, seed: 1, threads: 1, batch: {{samples: 4, pass_tokens: 256}},
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
    every = (("lora", "tokens"), ("rslora", "layers, memory: 1MiB"), ("dora", "tokens"))
    methods = dict.fromkeys(("bitsandbytes", "gptq", "awq"), every)
    methods |= dict.fromkeys(("mxfp4", "nvfp4", "modelopt"), every[1:2])
    for method, kinds in methods.items():
        golden = load_file(FOLDERS / method / "golden.safetensors")
        ids = golden["ids"].tolist()
        base = with_tokenizer(FOLDERS / method, scratch / method)
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
        for kind, schedule in kinds:
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

end()
