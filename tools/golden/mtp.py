#!/usr/bin/env python3
"""Tiny random models with the layer that predicts the token after the next, with its logits, the loss of both
predictions and gradients in fp32.

transformers has no such forward: it is composed here of its own decoder layer, norms and rotary embedding, as
deepseek-ai's files name them and the inference code of others computes them: h' = eh_proj([enorm(embedding of
the next token); hnorm(hidden state after the final norm)]), a decoder layer, shared_head.norm, the head.

Writes tests/golden/mtp/<name>/{config.json, model.safetensors (bf16), golden.safetensors (fp32), golden.json}
Run with the peers' Python: third_party/peers/bin/python tools/golden/mtp.py [NAME...]
"""
import json
import pathlib
import sys

import torch
import transformers
from models import COMMON, SEED, checkpoint_parts
from latent_models import latent_models
from safetensors.torch import save_file
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.glm4_moe_lite import modeling_glm4_moe_lite

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "mtp"
PARTS = {
    "deepseek_v3": (modeling_deepseek_v3.DeepseekV3DecoderLayer, modeling_deepseek_v3.DeepseekV3RMSNorm),
    "glm4_moe_lite": (
        modeling_glm4_moe_lite.Glm4MoeLiteDecoderLayer,
        modeling_glm4_moe_lite.Glm4MoeLiteRMSNorm,
    ),
}
WEIGHT = 0.3


class BehindTheLast(torch.nn.Module):
    def __init__(self, config, layer, norm):
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        self.enorm, self.hnorm = norm(width, eps=eps), norm(width, eps=eps)
        self.eh_proj = torch.nn.Linear(2 * width, width, bias=False)
        self.layer = layer(config, config.num_hidden_layers - 1)  # one with experts
        self.norm = norm(width, eps=eps)

    def forward(self, model, tokens, hidden):
        """Of tokens [1, n] and the hidden states after the final norm of all of them: n - 1 states."""
        joined = torch.cat(
            [self.enorm(model.model.embed_tokens(tokens[:, 1:])), self.hnorm(hidden[:, :-1])], -1
        )
        states = self.eh_proj(joined)
        rows = states.shape[1]
        positions = torch.arange(rows)[None]
        causal = torch.full((rows, rows), torch.finfo(torch.float32).min).triu(1)[None, None]
        states = self.layer(
            states,
            attention_mask=causal,
            position_ids=positions,
            position_embeddings=model.model.rotary_emb(states, position_ids=positions),
        )
        return self.norm(states[0] if isinstance(states, tuple) else states)


def stored_name(name, layers):
    behind = f"model.layers.{layers}."
    if name.startswith("layer."):
        return behind + name.removeprefix("layer.")
    return behind + ("shared_head." if name.startswith("norm.") else "") + name


def randomise(module):
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif not name.startswith(("model.", "lm_head")):  # what from_config() did not draw
                parameter.copy_(0.2 * torch.randn_like(parameter))
            parameter.copy_(parameter.to(torch.bfloat16))
        for name, buffer in module.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(0.3 * torch.randn_like(buffer))


def make(name):
    config = latent_models(COMMON)[name]
    config._attn_implementation = "eager"
    torch.manual_seed(SEED)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    behind = BehindTheLast(config, *PARTS[name])
    with torch.no_grad():
        for parameter in behind.parameters():  # experts are made without numbers
            parameter.fill_(1.0 if parameter.dim() == 1 else 0.0)
    randomise(model), randomise(behind)
    model.eval(), behind.eval()

    generator = torch.Generator().manual_seed(SEED)
    rows = [torch.randint(3, 96, (length,), generator=generator).tolist() for length in (13, 9, 30)]
    cost = lambda logits, labels: torch.nn.functional.cross_entropy(
        logits, torch.tensor(labels), reduction="sum"
    )
    tensors, totals = {}, [0.0, 0.0]
    for i, row in enumerate(rows):
        tokens = torch.tensor([row])
        hidden = model.model(tokens).last_hidden_state
        logits = model.lm_head(behind(model, tokens, hidden))[0]
        losses = cost(model.lm_head(hidden)[0, :-1], row[1:]), cost(logits[:-1], row[2:])
        (losses[0] + WEIGHT * losses[1]).backward()
        totals = [total + loss.item() for total, loss in zip(totals, losses)]
        tensors[f"logits.{i}"] = logits.detach()[-4:].clone()

    layers = config.num_hidden_layers
    state = {
        name: part for k, v in model.state_dict().items() for name, part in checkpoint_parts(k, v, config)
    }
    state |= {
        name: part
        for k, v in behind.state_dict().items()
        for name, part in checkpoint_parts(stored_name(k, layers), v, config)
    }
    state[f"model.layers.{layers}.embed_tokens.weight"] = state["model.embed_tokens.weight"]
    state[f"model.layers.{layers}.shared_head.head.weight"] = state["lm_head.weight"]
    named = [(stored_name(k, layers), v) for k, v in behind.named_parameters()]
    named += [
        (k, v) for k, v in model.named_parameters() if "layers." not in k or f"layers.{layers - 1}." in k
    ]
    for parameter_name, parameter in named:
        if parameter.grad is not None:
            for part_name, part in checkpoint_parts(parameter_name, parameter.grad, config):
                tensors["grad." + part_name] = part.clone()

    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    text = json.loads(config.to_json_string(use_diff=False)) | {"num_nextn_predict_layers": 1}
    text = {k: v for k, v in text.items() if v is not None and k != "_attn_implementation"}
    (folder / "config.json").write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
    kept = lambda name, part: part if name.endswith("e_score_correction_bias") else part.to(torch.bfloat16)
    save_file(
        {name: kept(name, part.detach()).clone() for name, part in state.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    record = {
        "seed": SEED,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "rows": rows,
        "weight": WEIGHT,
        "next": totals[0],
        "after_the_next": totals[1],
    }
    (folder / "golden.json").write_text(json.dumps(record) + "\n")
    return f"{name} {totals} {sum(f.stat().st_size for f in folder.iterdir())} bytes"


if __name__ == "__main__":
    for model_name in sys.argv[1:] or PARTS:
        print(make(model_name))
