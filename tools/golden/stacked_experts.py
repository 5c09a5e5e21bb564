#!/usr/bin/env python3
"""An adapter that PEFT trains on whole parameters of experts (target_parameters), on the tiny Mistral Small 4
and Qwen 3 MoE of tests/golden/models, in fp32.

Writes tests/golden/stacked_experts/<model>/{adapter_config.json, adapter_model.safetensors} as PEFT saves
them, and <model>.safetensors with tokens and logits.
Run with the peers' Python: third_party/peers/bin/python tools/golden/stacked_experts.py
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
ROOT = GOLDEN / "stacked_experts"
TOKENS = torch.tensor([[1, 17, 42, 9, 80, 3, 61, 25]])
transformers.AutoModelForCausalLM.register(
    transformers.Mistral4Config, transformers.Mistral4ForCausalLM, exist_ok=True
)


def base(name):
    return transformers.AutoModelForCausalLM.from_pretrained(
        GOLDEN / "models" / name, dtype=torch.float32, attn_implementation="eager"
    )


def logits(model):
    with torch.no_grad():
        return model.eval()(TOKENS).logits[0].contiguous()


shutil.rmtree(ROOT, ignore_errors=True)
for name in ("mistral4", "qwen3_moe"):
    torch.manual_seed(SEED)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=3,
        lora_alpha=6,
        target_modules=["o_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        rank_pattern={"experts.down_proj": 2},
    )
    model = peft.get_peft_model(base(name), config)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_B" in key:
                value.normal_(0, 0.3)
    model.save_pretrained(ROOT / name)
    (ROOT / name / "README.md").unlink(missing_ok=True)
    written = json.loads((ROOT / name / "adapter_config.json").read_text())
    written["base_model_name_or_path"] = name  # not where this ran
    (ROOT / name / "adapter_config.json").write_text(json.dumps(written, indent=1) + "\n")
    expected = {
        "tokens": TOKENS[0].to(torch.int32),
        "base": logits(base(name)),
        "adapter": logits(peft.PeftModel.from_pretrained(base(name), ROOT / name)),
    }
    save_file(expected, ROOT / f"{name}.safetensors")
    print(name, (expected["adapter"] - expected["base"]).abs().max().item())
