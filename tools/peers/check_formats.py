#!/usr/bin/env python3
"""Opens what retort wrote with the packages that others open it with: gguf, safetensors, transformers' index
reader, peft.

Run: third_party/peers/bin/python tools/peers/check_formats.py [BUILD_FOLDER]
BUILD_FOLDER is build/release unless told, else build/dev.
"""
import json
import pathlib
import subprocess
import sys
import warnings

import gguf
import numpy as np
import peft
import torch
import transformers
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Largest error for values in [-2, 2]: half a step of the format's grid, with room for the rounding of scales.
# fmt: off
TOLERANCE = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.01, "Q5_0": 0.14, "Q5_1": 0.07,
             "Q4_0": 0.27, "Q4_1": 0.14, "IQ4_NL": 0.3, "Q6_K": 0.09, "Q5_K": 0.09, "Q4_K": 0.16,
             "Q3_K": 0.5, "Q2_K": 0.8, "IQ4_XS": 0.3}
# fmt: on


def sawtooth(shape) -> np.ndarray:
    count = int(np.prod(shape))
    return (((37 * np.arange(count)) % 101 - 50) / np.float32(25)).astype(np.float32).reshape(shape)


def require(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"check_formats: {what}")


def check_gguf(path: pathlib.Path) -> str:
    reader = gguf.GGUFReader(path)
    value = lambda key: reader.get_field(key).contents()
    require(
        value("general.architecture") == "llama"
        and value("general.alignment") == 64
        and reader.alignment == 64,
        "gguf: architecture or alignment",
    )
    require(
        value("words") == ["a", "Größe", ""]
        and value("large") == 2**63
        and value("tenth") == 0.1
        and value("yes") is True
        and value("ids") == [3, -4],
        "gguf: metadata",
    )
    seen = []
    for tensor in reader.tensors:
        name = tensor.tensor_type.name
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(shape)
        error = float(np.abs(values - sawtooth(shape)).max())
        require(
            error <= TOLERANCE[name],
            f"gguf: {tensor.name} [{name}] is off by {error}, allowed {TOLERANCE[name]}",
        )
        require(int(tensor.data_offset) % 64 == 0, f"gguf: {tensor.name} is not aligned")
        seen.append(f"{name} {error:.3g}")
    return f"{len(seen)} tensors, largest errors: " + ", ".join(sorted(set(seen)))


def check_safetensors(folder: pathlib.Path) -> str:
    index = folder / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text())["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    tensors = {}
    for name in files:
        tensors |= load_file(folder / name)
    require(
        {name: (str(t.dtype), tuple(t.shape)) for name, t in tensors.items()}
        == {
            "model.a": ("torch.float32", (3, 5)),
            "model.b": ("torch.bfloat16", (4,)),
            "model.c": ("torch.float16", (2, 2, 2)),
        },
        "safetensors: names, types or shapes",
    )
    for name, tensor in tensors.items():
        require(
            torch.equal(tensor, torch.from_numpy(sawtooth(tensor.shape)).to(tensor.dtype)),
            f"safetensors: {name} differs",
        )
    if index.exists():
        shards, metadata = transformers.utils.hub.get_checkpoint_shard_files(str(folder), str(index))
        require(
            len(shards) == len(files) and metadata["total_size"] == sum(t.nbytes for t in tensors.values()),
            "safetensors: the index",
        )
    return f"{len(tensors)} tensors in {len(files)} files, equal bit for bit"


def check_adapter(folder: pathlib.Path) -> str:
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
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # missing or unexpected keys are warnings in peft
        model = peft.PeftModel.from_pretrained(base, folder)
    q = model.base_model.model.model.layers[0].self_attn.q_proj
    down = model.base_model.model.model.layers[0].mlp.down_proj
    require(
        abs(q.scaling["default"] - 6 / 2**0.5) < 1e-12
        and abs(down.scaling["default"] - 9 / 2**0.5) < 1e-12,
        "adapter: scaling",
    )
    require(q.use_dora["default"], "adapter: DoRA")
    for module, columns in ((q, 8), (down, 12)):
        require(
            torch.equal(module.lora_A["default"].weight, torch.from_numpy(sawtooth((2, columns)))),
            "adapter: lora_A",
        )
        require(
            torch.equal(module.lora_B["default"].weight, torch.from_numpy(sawtooth((8, 2)))),
            "adapter: lora_B",
        )
        require(
            torch.equal(module.lora_magnitude_vector["default"].weight, torch.from_numpy(sawtooth((8,)))),
            "adapter: magnitude",
        )
    require(
        torch.equal(
            model.base_model.model.lm_head.modules_to_save["default"].weight,
            torch.from_numpy(sawtooth((11, 8))),
        ),
        "adapter: lm_head",
    )
    return "peft loads it without a warning: scaling, A, B, magnitude and lm_head equal"


def main() -> None:
    builds = (
        [pathlib.Path(sys.argv[1])] if len(sys.argv) > 1 else [ROOT / "build/release", ROOT / "build/dev"]
    )
    build = next((b for b in builds if (b / "tests/formats_test").exists()), None)
    require(
        build is not None, f"no tests/formats_test in {' or '.join(map(str, builds))}; run tools/build first"
    )
    subprocess.run(
        [build / "tests/formats_test", "--gtest_filter=PeerFiles.*", "--gtest_brief=1"], check=True
    )
    files = build / "peer_files"
    print("gguf       :", check_gguf(files / "all.gguf"))
    print("safetensors:", check_safetensors(files / "single"))
    print("sharded    :", check_safetensors(files / "sharded"))
    print("adapter    :", check_adapter(files / "adapter"))


if __name__ == "__main__":
    main()
