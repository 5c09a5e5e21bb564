#!/usr/bin/env python3
"""Goldens for tests/formats: small files written by the safetensors, gguf and peft packages, and what is in
them.

Run: third_party/peers/bin/python tools/golden/formats.py
"""
import importlib.metadata
import json
import pathlib
import shutil

import gguf
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "formats"
SEED = 7
BLOCK_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def write_safetensors() -> dict:
    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        "model.norm.weight": torch.randn(6, generator=generator),
        "half": torch.randn(2, 3, generator=generator).half(),
        "brain": torch.randn(3, 2, 2, generator=generator).bfloat16(),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False, True]),
        "long": torch.tensor([[2**62 + 1], [-3]]),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        'quoted "é\n': torch.randn(1, generator=generator).to(torch.float8_e4m3fn),
    }
    save_file(tensors, OUT / "small.safetensors", metadata={"format": "pt", "by": "safetensors"})
    return {
        name: {
            "shape": list(t.shape),
            "type": str(t.dtype).removeprefix("torch."),
            "bytes": bytes(t.contiguous().flatten().view(torch.uint8).tolist()).hex(),
        }
        for name, t in tensors.items()
    }


def write_gguf() -> dict:
    random = np.random.default_rng(SEED)
    writer = gguf.GGUFWriter(OUT / "small.gguf", "llama")
    writer.add_block_count(2)
    writer.add_rope_freq_base(100000.0)
    writer.add_bool("small.yes", True)
    writer.add_uint64("small.large", 2**63 + 5)
    writer.add_float64("small.tenth", 0.1)
    writer.add_int16("small.negative", -300)
    writer.add_array("small.words", ["a", "Größe", ""])
    writer.add_array("small.numbers", [1.5, -2.25])
    writer.add_array("small.ids", [3, -4])
    listed = {}
    norm = random.standard_normal(5, dtype=np.float32)
    writer.add_tensor("norm.weight", norm)
    listed["norm.weight"] = {"type": "F32", "shape": [5], "bytes": norm.tobytes().hex()}
    for name in BLOCK_TYPES:
        kind = gguf.GGMLQuantizationType[name]
        blocks = gguf.quants.quantize(random.standard_normal((2, 64), dtype=np.float32), kind)
        writer.add_tensor(name.lower() + ".weight", blocks, raw_dtype=kind)
        listed[name.lower() + ".weight"] = {"type": name, "shape": [2, 64], "bytes": blocks.tobytes().hex()}
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return listed


def write_adapter() -> dict:
    torch.manual_seed(SEED)
    base = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=11,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=False,
        )
    )
    model = peft.get_peft_model(
        base,
        peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=2,
            lora_alpha=6,
            lora_dropout=0.25,
            use_dora=True,
            use_rslora=True,
            target_modules=["q_proj", "v_proj", "down_proj"],
            modules_to_save=["lm_head"],
            rank_pattern={"down_proj": 3},
            alpha_pattern={r"^model\.layers\.\d+\.mlp.down_proj": 9, "proj": 1, "v_proj": 7},
        ),
    )
    folder = OUT / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted(config["target_modules"])  # a Python set: any order
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    return {
        name.removeprefix("base_model.model."): {
            "rank": module.r["default"],
            "scaling": module.scaling["default"],
            "a_sum": module.lora_A["default"].weight.double().sum().item(),
        }
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    versions = {
        name: importlib.metadata.version(name)
        for name in ("safetensors", "gguf", "peft", "transformers", "torch")
    }
    golden = {
        "made_by": "tools/golden/formats.py",
        "seed": SEED,
        "versions": versions,
        "safetensors": write_safetensors(),
        "gguf": write_gguf(),
        "peft": write_adapter(),
    }
    (OUT / "formats.json").write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
    print(OUT, sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file()), "bytes")


if __name__ == "__main__":
    main()
