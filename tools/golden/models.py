#!/usr/bin/env python3
"""Tiny random models of every family, with logits, loss and gradients by transformers in fp32.

Writes tests/golden/models/<name>/{config.json, model.safetensors (bf16), golden.safetensors (fp32), golden.json}.
Weights are multiples of bf16, so that every program starts from the same numbers.
Run with the peers' Python: third_party/peers/bin/python tools/golden/models.py
"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file

SEED = 7
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
COMMON = dict(vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
              max_position_embeddings=1024, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2)
MODELS = {
    "llama": transformers.LlamaConfig(**COMMON, rope_parameters={"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 64}, tie_word_embeddings=False),
    "mistral": transformers.MistralConfig(**COMMON, sliding_window=8, head_dim=12, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
                                          tie_word_embeddings=False),
    "qwen2": transformers.Qwen2Config(**COMMON, use_sliding_window=False, tie_word_embeddings=True,
                                      rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}),
    "qwen3": transformers.Qwen3Config(**COMMON, head_dim=16, use_sliding_window=False, tie_word_embeddings=True,
                                      rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
    "gemma2": transformers.Gemma2Config(**COMMON, head_dim=16, sliding_window=8, query_pre_attn_scalar=24, attn_logit_softcapping=5.0,
                                        final_logit_softcapping=3.0, hidden_activation="gelu_pytorch_tanh",
                                        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}),
    "gemma3": transformers.Gemma3TextConfig(**{**COMMON, "num_hidden_layers": 3}, head_dim=16, sliding_window=8, query_pre_attn_scalar=16,
                                            hidden_activation="gelu_pytorch_tanh",
                                            layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                            rope_parameters={"full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
                                                             "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
    "phi3": transformers.Phi3Config(**{**COMMON, "max_position_embeddings": 1024}, sliding_window=16, original_max_position_embeddings=64,
                                    tie_word_embeddings=False,
                                    rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 64,
                                                     "short_factor": [1.0, 1.05, 1.1, 1.2], "long_factor": [1.0, 1.5, 4.0, 12.0]}),
}


def make(name, config):
    torch.manual_seed(SEED)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter_name.endswith(".bias"):
                parameter.copy_(0.2 * torch.randn_like(parameter))
            parameter.copy_(parameter.to(torch.bfloat16))
    model.eval()
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    text = json.loads(config.to_json_string(use_diff=False))
    (folder / "config.json").write_text(json.dumps({k: v for k, v in text.items() if v is not None and k != "_attn_implementation"}, indent=1, sort_keys=True) + "\n")
    state = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    generator = torch.Generator().manual_seed(SEED)
    rows = [torch.randint(3, 96, (length,), generator=generator).tolist() for length in (13, 9, 30)]
    tensors, total = {}, 0.0
    for i, row in enumerate(rows):
        logits = model(torch.tensor([row])).logits[0]
        loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(row[1:]), reduction="sum")
        loss.backward()
        total += loss.item()
        tensors[f"logits.{i}"] = logits.detach()[-4:].clone()
    last_layer = f"layers.{config.num_hidden_layers - 1}."
    for parameter_name, parameter in model.named_parameters():
        if "layers." not in parameter_name or last_layer in parameter_name or parameter_name.endswith(("norm.weight", ".bias")):
            tensors["grad." + parameter_name] = parameter.grad.clone()
    long = torch.randint(3, 96, (501,), generator=generator)
    positions = [0, 1, 7, 500]
    with torch.no_grad():
        tensors["positions.logits"] = model(long[None]).logits[0][positions].clone()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    record = {"seed": SEED, "transformers": transformers.__version__, "torch": torch.__version__, "rows": rows, "loss": total,
              "long_row": long.tolist(), "positions": positions}
    (folder / "golden.json").write_text(json.dumps(record) + "\n")
    print(name, total, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


if __name__ == "__main__":
    for model_name, model_config in MODELS.items():
        make(model_name, model_config)
