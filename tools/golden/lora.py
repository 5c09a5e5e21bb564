#!/usr/bin/env python3
"""LoRA, rsLoRA and DoRA on one linear layer by PEFT in fp32: values and gradients.

Writes tests/golden/ops/lora.safetensors. Run with the peers' Python: third_party/peers/bin/python
tools/golden/lora.py
"""
import pathlib

import peft
import torch
from safetensors.torch import save_file

SEED = 7
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "ops"


class One(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = torch.nn.Linear(48, 40, bias=True)

    def forward(self, x):
        return self.proj(x)


tensors = {}
for name, options in {"lora": {}, "rslora": {"use_rslora": True}, "dora": {"use_dora": True}}.items():
    torch.manual_seed(SEED)
    model = peft.get_peft_model(
        One(), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["proj"], lora_dropout=0.0, **options)
    )
    layer = model.base_model.model.proj
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(0, 0.3)
        if name == "dora":
            layer.lora_magnitude_vector["default"].weight.mul_(1 + 0.2 * torch.randn(40))
    x = torch.randn(11, 48, requires_grad=True)
    dy = torch.randn(11, 40)
    y = model(x)
    y.backward(dy)
    tensors |= {
        f"{name}.{key}": value.detach().clone()
        for key, value in {
            "x": x,
            "w": layer.base_layer.weight,
            "bias": layer.base_layer.bias,
            "a": layer.lora_A["default"].weight,
            "b": layer.lora_B["default"].weight,
            "y": y,
            "dy": dy,
            "dx": x.grad,
            "da": layer.lora_A["default"].weight.grad,
            "db": layer.lora_B["default"].weight.grad,
        }.items()
    }
    tensors[f"{name}.scaling"] = torch.tensor([layer.scaling["default"]])
    if name == "dora":
        magnitude = layer.lora_magnitude_vector["default"].weight
        tensors |= {"dora.m": magnitude.detach().clone(), "dora.dm": magnitude.grad.clone()}
ROOT.mkdir(parents=True, exist_ok=True)
save_file(
    {k: v.contiguous() for k, v in tensors.items()},
    ROOT / "lora.safetensors",
    metadata={"seed": str(SEED), "peft": peft.__version__, "torch": torch.__version__},
)
