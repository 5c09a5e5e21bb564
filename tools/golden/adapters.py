#!/usr/bin/env python3
"""Adapters on the tiny Llama of tests/golden/models by PEFT and transformers in fp32: with rank and alpha
patterns, several of them weighted (add_weighted_adapter), and one in mlx-lm's layout.

Writes tests/golden/adapters/{patterns, rslora}/ (as PEFT saves them), mlx/ (adapters.safetensors as mlx-lm
lays it out: lora_a [in, r], lora_b [r, out], weight + (scale lora_b^T) lora_a^T) and expected.safetensors
(logits of the same tokens).
Run with the peers' Python: third_party/peers/bin/python tools/golden/adapters.py
"""
import json
import os
import pathlib
import shutil

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
import transformers
from safetensors.torch import save_file

SEED = 7
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
ROOT = GOLDEN / "adapters"
BASE = GOLDEN / "models" / "llama"
TOKENS = torch.tensor([[1, 17, 42, 9, 80, 3, 61, 25]])


def base():
    return transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def trained(name, **options):
    """A PEFT adapter whose B is not zero, saved as PEFT saves it."""
    torch.manual_seed(SEED + len(name))
    model = peft.get_peft_model(base(), peft.LoraConfig(task_type="CAUSAL_LM", **options))
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_B" in key:
                value.normal_(0, 0.3)
    model.save_pretrained(ROOT / name)
    (ROOT / name / "README.md").unlink(missing_ok=True)
    config = json.loads((ROOT / name / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "llama"  # not where this ran
    (ROOT / name / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits[0].contiguous()


shutil.rmtree(ROOT, ignore_errors=True)
trained(
    "patterns",
    r=2,
    lora_alpha=6,
    target_modules=["q_proj", "v_proj", "down_proj"],
    rank_pattern={"layers.1.self_attn.q_proj": 4, "down_proj": 3},
    alpha_pattern={"layers.1.self_attn.v_proj": 5},
)
trained("rslora", r=4, lora_alpha=5, target_modules=["q_proj", "up_proj"], use_rslora=True)
expected = {"tokens": TOKENS[0].to(torch.int32), "base": logits(base())}
for name in ("patterns", "rslora"):
    expected[name] = logits(peft.PeftModel.from_pretrained(base(), ROOT / name))
model = peft.PeftModel.from_pretrained(base(), ROOT / "patterns", adapter_name="patterns")
model.load_adapter(ROOT / "rslora", adapter_name="rslora")
for name, weights in {"weighted": [0.7, -0.3], "summed": [1.0, 1.0]}.items():
    model.add_weighted_adapter(["patterns", "rslora"], weights, name, combination_type="cat")
    model.set_adapter(name)
    expected[name] = logits(model)
model.add_weighted_adapter(["patterns"], [0.5], "halved", combination_type="linear")
model.set_adapter("halved")
expected["halved"] = logits(model)

torch.manual_seed(SEED)
plain, tensors, scale, rank = base(), {}, 2.5, 3
for layer in range(2):
    for part in ("self_attn.q_proj", "mlp.down_proj"):
        weight = plain.get_submodule(f"model.layers.{layer}.{part}").weight
        rows, columns = weight.shape
        a, b = torch.randn(columns, rank) / columns**0.5, torch.randn(rank, rows) * 0.3
        tensors |= {f"model.layers.{layer}.{part}.lora_a": a, f"model.layers.{layer}.{part}.lora_b": b}
        weight.data += (scale * b.T) @ a.T
expected["mlx"] = logits(plain)
(ROOT / "mlx").mkdir()
save_file(tensors, ROOT / "mlx" / "adapters.safetensors", metadata={"format": "mlx"})
(ROOT / "mlx" / "adapter_config.json").write_text(
    json.dumps(
        {
            "adapter_path": "adapters",
            "batch_size": 4,
            "fine_tune_type": "lora",
            "iters": 100,
            "model": "llama",
            "num_layers": 2,
            "seed": 0,
            "lora_parameters": {
                "dropout": 0.0,
                "keys": ["self_attn.q_proj", "mlp.down_proj"],
                "rank": rank,
                "scale": scale,
            },
        },
        indent=4,
    )
    + "\n"
)
save_file(
    expected,
    ROOT / "expected.safetensors",
    metadata={
        "seed": str(SEED),
        "peft": peft.__version__,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
    },
)
