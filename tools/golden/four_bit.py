#!/usr/bin/env python3
"""Matrices and tiny models at 4 bits as bitsandbytes, GPTQModel (GPTQ, AWQ) and AutoAWQ write and widen them.

Writes tests/golden/models/four_bit/matrices.safetensors, each matrix with the numbers that its library
gives, and a folder for each method, as people upload it, with the logits of transformers in fp32 over
those numbers. bitsandbytes and transformers are the peers' (third_party/peers); GPTQModel and AutoAWQ are
not among them: their sources (pip download --no-deps --no-binary :all: gptqmodel==7.7.0 autoawq==0.2.9)
are unpacked somewhere, and what they import besides lies beside them (pypcre logbar device-smi tokenicer
threadpoolctl defuser torchao pillow):
  TORCHDYNAMO_DISABLE=1 OMP_NUM_THREADS=1 PYTHONPATH=SITE:gptqmodel-7.7.0 \\
    third_party/peers/bin/python tools/golden/four_bit.py autoawq-0.2.9
"""
import importlib.util
import pathlib
import shutil
import sys
import tempfile

import bitsandbytes
import gptqmodel
import torch
import transformers
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.functional import (
    QuantState,
    dequantize_4bit,
    dequantize_blockwise,
    get_4bit_type,
    quantize_4bit,
)
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm
from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module, convert_gptq_v2_to_v1_format_module
from safetensors.torch import load_file, save_file
from tiny_llama import TinyLlama

SEED = 7
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models" / "four_bit"
spec = importlib.util.spec_from_file_location(
    "packing", pathlib.Path(sys.argv[1]) / "awq" / "utils" / "packing_utils.py"
)
autoawq = importlib.util.module_from_spec(spec)
spec.loader.exec_module(autoawq)
torch.manual_seed(SEED)


def widened(codes, state):
    """By bitsandbytes' portable code, which its CUDA kernels agree with. Its native CPU kernel reads wrong
    scales where a block crosses rows (0.50.2: errors as large as the weights), and is the same elsewhere."""
    absmax = state.absmax
    if state.nested:
        absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset
    numbers = _dequantize_4bit_compute(
        codes.reshape(-1).view(torch.uint8),
        absmax,
        get_4bit_type(state.quant_type, "cpu"),
        state.blocksize,
        tuple(state.shape),
        state.dtype,
    )
    assert state.shape[1] % state.blocksize or torch.equal(numbers, dequantize_4bit(codes, state))
    return numbers


def bnb(weight, kind, block, nested, storage=torch.uint8, dtype=torch.float32):
    """name suffix -> tensor, and the numbers."""
    codes, state = quantize_4bit(
        weight.to(dtype), blocksize=block, compress_statistics=nested, quant_type=kind, quant_storage=storage
    )
    parts = {"": codes} | {"." + key: value for key, value in state.as_dict(packed=True).items()}
    read = QuantState.from_dict(
        {key[1:]: value.clone() for key, value in parts.items() if key}, torch.device("cpu")
    )
    return parts, widened(codes, read)


def rounded(weight, group, symmetric, order=None):
    """Round to nearest in groups of inputs: scales, zero points [out, groups], group of each input."""
    out, inputs = weight.shape
    group = inputs if group == -1 else group
    g_idx = torch.arange(inputs) // group
    if order is not None:
        g_idx = g_idx[torch.argsort(order)]
    groups = int(g_idx.max()) + 1
    scales, zeros = torch.zeros(out, groups), torch.zeros(out, groups)
    for g in range(groups):
        part = weight[:, g_idx == g]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            high = torch.maximum(high, -low)
            low = -high
        scale = ((high - low) / 15).clamp(min=1e-5).half().float()
        scales[:, g], zeros[:, g] = scale, torch.round(-low / scale).clamp(0, 15) if not symmetric else 8
    return scales, zeros, g_idx.to(torch.int32)


def linear(weight):
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer


def gptq(weight, group, symmetric, version, order=None, scale_type=torch.float16):
    scales, zeros, g_idx = rounded(weight, group, symmetric, order)
    module = TorchLinear(
        bits=4,
        group_size=group,
        sym=symmetric,
        desc_act=order is not None,
        in_features=weight.shape[1],
        out_features=weight.shape[0],
        bias=False,
        pack_dtype=torch.int32,
        register_buffers=True,
    )
    module.pack_original(linear(weight), scales, zeros, g_idx)  # in the second format
    module.qzero_format(format=2)
    module.scales = module.scales.to(scale_type)
    if version == 1:
        convert_gptq_v2_to_v1_format_module(module, type("C", (), {"bits": 4, "pack_dtype": torch.int32}))
    parts = {"." + key: getattr(module, key).clone() for key in ("qweight", "qzeros", "scales", "g_idx")}
    if version == 1:
        convert_gptq_v1_to_v2_format_module(module, 4, torch.int32)
    module.post_init()
    own = module.dequantize_weight().t().contiguous()
    module.scales = module.scales.float()
    return parts, module.dequantize_weight().t().float().contiguous(), own


def awq(weight, group):
    scales, zeros, _ = rounded(weight, group, False)
    module = AwqTorchLinear(
        bits=4,
        group_size=group,
        sym=False,
        desc_act=False,
        in_features=weight.shape[1],
        out_features=weight.shape[0],
        bias=False,
        register_buffers=True,
    )
    module.pack(linear(weight), scales, zeros)
    parts = {"." + key: getattr(module, key).clone() for key in ("qweight", "qzeros", "scales")}
    size = weight.shape[1] if group == -1 else group
    arguments = parts[".qweight"], parts[".qzeros"]
    own = autoawq.dequantize_gemm(*arguments, parts[".scales"], 4, size).t().contiguous()
    wide = dequantize_gemm(*arguments, parts[".scales"].float(), 4, size).t().contiguous()
    assert torch.equal(wide.half(), own)
    return parts, wide, own


tensors = {}


def add(name, parts, *numbers):
    tensors.update({f"{name}{key}": value.contiguous() for key, value in parts.items()})
    for kind, values in zip(("expected", "library"), numbers):
        tensors[f"{name}.{kind}"] = values.contiguous()


for name, kind, block, nested, storage, dtype, shape in [
    ("nf4_64", "nf4", 64, False, torch.uint8, torch.float32, (24, 128)),
    ("nf4_64_nested", "nf4", 64, True, torch.uint8, torch.float32, (96, 192)),
    ("nf4_64_bf16", "nf4", 64, True, torch.bfloat16, torch.bfloat16, (24, 128)),
    ("nf4_64_f16", "nf4", 64, True, torch.uint8, torch.float16, (24, 128)),
    ("fp4_64_nested", "fp4", 64, True, torch.uint8, torch.float32, (24, 128)),
    ("nf4_128", "nf4", 128, True, torch.float32, torch.float32, (24, 80)),
    ("fp4_1024", "fp4", 1024, False, torch.uint8, torch.float32, (30, 70)),
    ("nf4_4096", "nf4", 4096, False, torch.uint8, torch.float32, (20, 72)),
]:
    parts, numbers = bnb(torch.randn(shape) * 0.05, kind, block, nested, storage, dtype)
    add(name + ".weight", parts, numbers)
for name, group, symmetric, version, ordered, scale_type, shape in [
    ("gptq_32", 32, True, 1, False, torch.float16, (24, 96)),
    ("gptq_64_v2", 64, False, 2, False, torch.float16, (16, 128)),
    ("gptq_order", 32, False, 1, True, torch.float16, (24, 128)),
    ("gptq_row", -1, False, 2, False, torch.float16, (16, 96)),
    ("gptq_bf16", 128, True, 1, False, torch.bfloat16, (16, 256)),
    ("gptq_positive", 32, False, 1, False, torch.float16, (16, 64)),
]:
    weight = torch.randn(shape) * 0.05
    if name == "gptq_positive":  # zero points of 0, which the first format stores as a borrow from the next
        weight[::3] = weight[::3].abs()
    add(
        name,
        *gptq(weight, group, symmetric, version, torch.randperm(shape[1]) if ordered else None, scale_type),
    )
for name, group, shape in [("awq_32", 32, (24, 96)), ("awq_128", 128, (16, 256)), ("awq_row", -1, (16, 64))]:
    add(name, *awq(torch.randn(shape) * 0.05, group))

versions = {
    "seed": str(SEED),
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "bitsandbytes": bitsandbytes.__version__,
    "gptqmodel": gptqmodel.__version__,
    "autoawq": "0.2.9",
}
ROOT.mkdir(parents=True, exist_ok=True)
save_file(tensors, ROOT / "matrices.safetensors", metadata=versions)

# --- whole models ---
tiny = TinyLlama(torch.Tensor.half)


def write(method, section, make):
    tiny.write(ROOT / method, section, lambda weight: make(weight)[:2], versions)


order = {value: torch.randperm(value) for value in (32, 64)}
write(
    "gptq",
    {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 16,
        "desc_act": True,
        "sym": False,
        "true_sequential": True,
        "damp_percent": 0.1,
        "checkpoint_format": "gptq",
        "static_groups": False,
        "model_file_base_name": "model",
        "lm_head": False,
    },
    lambda weight: gptq(weight, 16, False, 1, order[weight.shape[1]]),
)
write(
    "awq",
    {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 16,
        "version": "gemm",
        "zero_point": True,
        "modules_to_not_convert": None,
    },
    lambda weight: awq(weight, 16),
)

# bitsandbytes: transformers itself quantizes and saves.
folder = ROOT / "bitsandbytes"
shutil.rmtree(folder, ignore_errors=True)
with tempfile.TemporaryDirectory() as original:
    tiny.model.load_state_dict(tiny.plain)
    tiny.model.save_pretrained(original)
    options = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    quantized = transformers.AutoModelForCausalLM.from_pretrained(
        original, quantization_config=options, dtype=torch.float32, device_map="cpu"
    )
    quantized.save_pretrained(folder)
stored = load_file(folder / "model.safetensors")
wide = dict(tiny.plain)
for layer in tiny.linears:
    name = layer + ".weight"
    read = QuantState.from_dict(
        {key[len(name) + 1 :]: value for key, value in stored.items() if key.startswith(name + ".")},
        torch.device("cpu"),
    )
    wide[name] = widened(stored[name], read)
golden = {"ids": tiny.ids[0].int(), "logits": tiny.logits_of(wide)}
save_file(golden, folder / "golden.safetensors", metadata=versions)
(folder / "generation_config.json").unlink(missing_ok=True)
