#!/usr/bin/env python3
"""Matrices and tiny models of 4-bit floats, MXFP4 and NVFP4, as compressed-tensors writes and widens them,
and as ModelOpt does.

Writes tests/golden/models/four_bit/e2m1.safetensors, each matrix with its numbers in fp32, and the folders
mxfp4, nvfp4 and modelopt with the logits of transformers in fp32 over such numbers. compressed-tensors is not
among the peers: it is installed somewhere (pip install --no-deps --target SITE compressed-tensors==0.20.0
loguru). It hands matrices out in bf16; that rounding of the numbers here is compared with it, and
transformers opens its folders with it. ModelOpt needs CUDA's tools to be imported: its rule is written out
below (modelopt/torch/quantization/qtensor/nvfp4_tensor.py, 0.47.0).

    PYTHONPATH=SITE third_party/peers/bin/python tools/golden/e2m1.py
"""
import json
import pathlib

import compressed_tensors
import torch
import transformers
from compressed_tensors.compressors.mxfp4.base import MXFP4PackedCompressor
from compressed_tensors.compressors.nvfp4.base import NVFP4PackedCompressor
from compressed_tensors.quantization import QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.quant_scheme import MXFP4A16, NVFP4A16
from safetensors.torch import save_file
from tiny_llama import TinyLlama

SEED = 11
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models" / "four_bit"
E2M1 = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0])
torch.manual_seed(SEED)


def numbers(packed, scales):
    """Codes of two in a byte, the first in the low nibble, times the fp32 scale of their block."""
    codes = torch.stack((packed & 15, packed >> 4), dim=-1).reshape(packed.shape[0], -1).long()
    size = codes.shape[1] // scales.shape[1]
    return E2M1[codes] * scales.repeat_interleave(size, 1)


def blocks(weight, size):
    return weight.view(weight.shape[0], -1, size).abs().amax(-1)


def mxfp4(weight):
    scheme = QuantizationScheme(targets=["Linear"], **MXFP4A16)
    scale = torch.exp2(torch.floor(torch.log2(blocks(weight, 32).clamp(min=2**-100))) - 2)
    parts = MXFP4PackedCompressor.compress({"weight": weight, "weight_scale": scale}, scheme)
    wide = numbers(parts["weight_packed"], torch.exp2(parts["weight_scale"].float() - 127))
    own = MXFP4PackedCompressor.decompress(dict(parts), scheme)["weight"]
    assert torch.equal(wide.bfloat16(), own)
    return {f".{name}": value for name, value in parts.items()}, wide


def nvfp4(weight):
    scheme = QuantizationScheme(targets=["Linear"], **NVFP4A16)
    over_all = (448 * 6 / weight.abs().max()).reshape(1)
    scale = (blocks(weight, 16) / 6 * over_all).clamp(2**-9, 448).to(torch.float8_e4m3fn)
    parts = NVFP4PackedCompressor.compress(
        {"weight": weight, "weight_scale": scale.float(), "weight_global_scale": over_all}, scheme
    )
    wide = numbers(parts["weight_packed"], parts["weight_scale"].float() / parts["weight_global_scale"])
    own = NVFP4PackedCompressor.decompress(dict(parts), scheme)["weight"]
    assert torch.equal(wide.bfloat16(), own)
    return {f".{name}": value for name, value in parts.items()}, wide


def modelopt(weight):
    second = weight.abs().max() / (6 * 448)
    scale = (blocks(weight, 16) / (6 * second)).clamp(2**-9, 448).to(torch.float8_e4m3fn)
    over = weight / (scale.float() * second).repeat_interleave(16, 1)
    bounds = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])
    places = torch.searchsorted(bounds, over.abs())
    places += torch.isin(over.abs(), bounds[[1, 3, 5]])
    codes = (((over < 0).long() << 3) + places).to(torch.uint8)
    packed = codes[:, 1::2] << 4 | codes[:, 0::2]
    parts = {".weight": packed, ".weight_scale": scale, ".weight_scale_2": second}
    return parts | {".input_scale": torch.tensor(0.01)}, numbers(packed, scale.float() * second)


tensors = {}
KINDS = {"mxfp4": mxfp4, "nvfp4": nvfp4, "modelopt": modelopt}
for kind, make in KINDS.items():
    for name, weight in {
        kind: torch.randn(24, 96) * 0.05,
        kind + "_wide": torch.randn(5, 1024) * torch.logspace(-6, 3, 5).unsqueeze(1),  # of very unequal rows
    }.items():
        parts, wide = make(weight)
        tensors |= {name + key: value.contiguous() for key, value in parts.items()}
        tensors[name + ".expected"] = wide
versions = {
    "seed": str(SEED),
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "compressed-tensors": compressed_tensors.__version__,
    "modelopt": "the rule of 0.47.0",
}
save_file(tensors, ROOT / "e2m1.safetensors", metadata=versions)

# --- whole models ---
tiny = TinyLlama(torch.Tensor.bfloat16)


def compressed(scheme, name):
    return QuantizationConfig(
        config_groups={"group_0": QuantizationScheme(targets=["Linear"], format=name, **scheme)},
        ignore=["lm_head"],
        format=name,
        quantization_status="compressed",
    ).to_dict()


sections = {
    "mxfp4": compressed(MXFP4A16, "mxfp4-pack-quantized"),
    "nvfp4": compressed(NVFP4A16, "nvfp4-pack-quantized"),
    "modelopt": {
        "quant_method": "modelopt",
        "quant_algo": "NVFP4",
        "config_groups": {
            "group_0": {
                "input_activations": {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16},
                "weights": {"dynamic": False, "num_bits": 4, "type": "float", "group_size": 16},
                "targets": ["Linear"],
            }
        },
        "ignore": ["lm_head"],
        "producer": {"name": "modelopt", "version": "0.47.0"},
    },
}


for kind, make in KINDS.items():
    folder = ROOT / kind
    section = json.loads(json.dumps(sections[kind], default=str))
    wide = tiny.write(folder, section, make, versions)
    try:
        opened = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16,
            quantization_config=transformers.CompressedTensorsConfig(dequantize=True),
        )
        found = {name: value.float() for name, value in opened.state_dict().items()}
        same = all(torch.equal(found[name], wide[name].bfloat16().float()) for name in tiny.plain)
        print(f"{kind}: transformers opens it, its numbers in bf16 are {'' if same else 'not '}these")
    except Exception as error:  # what it says is the finding
        print(f"{kind}: transformers does not open it: {type(error).__name__}: {str(error)[:200]}")
