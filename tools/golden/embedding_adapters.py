#!/usr/bin/env python3
"""Adapters on the embedding and the head, and embedding rows that are trained alone, by PEFT in fp32: the
folders as PEFT saves them, logits, a loss and its gradients.

Writes tests/golden/embedding_adapters/FAMILY_CASE/ and expected.safetensors ("FAMILY_CASE.logits", ".loss",
".d.NAME OF A TENSOR").
Run with the peers' Python: third_party/peers/bin/python tools/golden/embedding_adapters.py
"""
import json
import os
import pathlib
import shutil
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

SEED = 7
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden"
ROOT = GOLDEN / "embedding_adapters"
TOKENS = torch.tensor([[1, 17, 42, 9, 80, 3, 17, 25, 9, 61]])
CASES = {
    "low_rank": {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    "embedding": {"target_modules": ["embed_tokens"], "use_rslora": True},
    "head": {"target_modules": ["lm_head", "v_proj"], "use_dora": True},
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": [17, 9, 95]},
    "tokens_of_both": {
        "target_modules": ["q_proj"],
        "trainable_token_indices": {"embed_tokens": [17, 9], "lm_head": [17, 9]},
    },
}
warnings.simplefilter("ignore")  # that the embedding is tied, and that it is saved beside its adapter
shutil.rmtree(ROOT, ignore_errors=True)
expected = {"tokens": TOKENS[0].to(torch.int32)}
for family in ("llama", "gemma3"):  # apart; tied, and scaled where it is looked up
    for case, options in CASES.items():
        name = f"{family}_{case}"
        torch.manual_seed(SEED + len(name))
        base = transformers.AutoModelForCausalLM.from_pretrained(
            GOLDEN / "models" / family, dtype=torch.float32, attn_implementation="eager"
        )
        model = peft.get_peft_model(
            base, peft.LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=5, **options)
        )
        with torch.no_grad():
            for key, value in model.named_parameters():
                if (
                    "lora_B" in key
                    or "lora_embedding_" in key
                    or "trainable_tokens_delta" in key
                    or "magnitude" in key
                ):
                    value.add_(torch.randn(value.shape) * 0.2)
        result = model(TOKENS)
        logits = result.logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits[:-1], TOKENS[0, 1:], reduction="sum")
        loss.backward()
        expected[f"{name}.logits"] = logits.detach().contiguous()
        expected[f"{name}.loss"] = loss.detach().reshape(1)
        for key, value in model.named_parameters():
            if value.requires_grad:
                expected[f"{name}.d.{key.replace('.default', '')}"] = value.grad.contiguous()
        model.save_pretrained(ROOT / name)
        (ROOT / name / "README.md").unlink(missing_ok=True)
        config = json.loads((ROOT / name / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = family  # not where this ran
        config["target_modules"] = sorted(config["target_modules"])
        (ROOT / name / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
        print(
            name,
            {
                key: tuple(value.shape)
                for key, value in load_file(ROOT / name / "adapter_model.safetensors").items()
            },
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
