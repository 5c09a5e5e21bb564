#!/usr/bin/env python3
"""Trains on a tiny folder of F8_E4M3 and merges back into it (export.merged: keep). What the merged shards
say is read with a plain torch dequantization, with retort (widened to F32, opened in transformers) and with
transformers' own FP8 integration, which widens to bf16 on a CPU.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_fp8.py [--retort build/release/retort]

Exits 1 when something differs by more than it may.
"""
import json
import pathlib
import tempfile

import torch
from safetensors.torch import load_file, save_file
from tiny_models import GOLDEN, base_model, distance, end, logits, report, retort, with_tokenizer
from transformers import AutoModelForCausalLM

BLOCK = 16
RECIPE = """model: {{path: {base}, compute: f32}}
data:
  sources: [{{path: {samples}, prompt: "{{q}}", completion: "{{a}}"}}]
  template: plain
  held_out: {{count: 2}}
adapter: {{kind: lora, rank: 4, alpha: 8, targets: [q_proj, down_proj]}}
train:
  {{steps: 8, seed: 1, threads: 1, batch: {{samples: 4, pass_tokens: 256}},
   optimizer: {{learning_rate: 5.0e-2}}}}
eval: {{tasks: [{{kind: perplexity}}]}}
export: {{adapter: true, merged: keep, gguf: []}}
run: {{folder: {run}}}
"""


def scale_of(blocks, powers):
    scale = blocks.abs().amax((1, 3)) / 448
    return torch.exp2(torch.ceil(torch.log2(scale))) if powers else scale


def as_fp8(source, folder, powers):
    """The projections of a golden model, as DeepSeek publishes matrices."""
    with_tokenizer(source, folder)
    stored = {}
    for name, value in load_file(source / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            stored[name] = value
            continue
        rows, columns = value.shape
        blocks = value.float().view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = scale_of(blocks, powers)
        stored[name] = (blocks / scale[:, None, :, None]).view(rows, columns).to(torch.float8_e4m3fn)
        stored[name + "_scale_inv"] = scale
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [BLOCK, BLOCK],
        "modules_to_not_convert": ["lm_head"],
    } | ({"scale_fmt": "ue8m0"} if powers else {})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def dequantized(folder):
    stored = load_file(folder / "model.safetensors")
    wide = {}
    for name, value in stored.items():
        if name.endswith("_scale_inv"):
            continue
        if value.dtype == torch.float8_e4m3fn:
            scale = stored[name + "_scale_inv"]
            grid = scale.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
            value = value.float() * grid
        wide[name] = value.float()
    return wide


with tempfile.TemporaryDirectory() as name:
    scratch = pathlib.Path(name)
    samples = scratch / "samples.jsonl"
    words = ["queen", "brood", "frame", "smoke", "honey", "wax", "floor", "crown", "drone", "swarm"]
    samples.write_text(
        "".join(json.dumps({"q": f"the {word} of a hive ", "a": f"is {word[::-1]}"}) + "\n" for word in words)
    )
    ids = [1, 14, 15, 92, 65, 35, 8, 9, 79, 32, 38, 46, 26, 43, 38]
    for kind, powers in (("scales", False), ("powers of two", True)):
        base = as_fp8(GOLDEN / "models/llama", scratch / kind.replace(" ", "-"), powers)
        run, recipe = scratch / f"run-{powers}", scratch / f"{powers}.yaml"
        recipe.write_text(RECIPE.format(base=base, samples=samples, run=run))
        retort("check", recipe)
        print(retort("run", recipe).strip().splitlines()[-1])
        merged = run / "export/merged"
        before, after = load_file(base / "model.safetensors"), load_file(merged / "model.safetensors")
        assert list(before) == list(after)
        changed = {key for key in before if not torch.equal(before[key].float(), after[key].float())}
        assert changed and all("q_proj" in key or "down_proj" in key for key in changed), changed
        for key in changed:
            if key.endswith("_scale_inv"):
                blocks = dequantized(merged)[key.removesuffix("_scale_inv")]
                blocks = blocks.view(blocks.shape[0] // BLOCK, BLOCK, -1, BLOCK)
                # The largest code is 448 where the scale is exact, above 224 where it is rounded up.
                largest = blocks.abs().amax((1, 3)) / after[key]
                exact = (largest - 448).abs() < 0.01  # a division and a product of fp32
                assert (exact | (powers & (largest > 220))).all(), (key, largest)
        wide = dequantized(merged)
        model = base_model(GOLDEN / "models/llama")
        model.load_state_dict(wide, strict=False)
        expected = logits(model, ids)
        retort(
            "export", "--model", merged, "-o", scratch / f"wide-{powers}", "--merged", "f32", "--no-compare"
        )
        read = logits(base_model(scratch / f"wide-{powers}/merged"), ids)
        report(f"{kind}: retort's reader beside a torch dequantization", distance(read, expected), 1e-6)
        model.load_state_dict({key: value.bfloat16().float() for key, value in wide.items()}, strict=False)
        rounded = logits(model, ids)
        theirs = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.bfloat16).float().eval()
        report(
            f"{kind}: transformers' FP8 on a CPU beside it, in bf16",
            distance(logits(theirs, ids), rounded),
            1e-6,
        )
end()
