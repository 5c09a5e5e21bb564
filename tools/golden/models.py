#!/usr/bin/env python3
"""Tiny random models of every family, with logits, loss and gradients by transformers in fp32.

Writes tests/golden/models/<name>/{config.json, model.safetensors (bf16), golden.safetensors (fp32),
golden.json}.
Weights are multiples of bf16, so that every program starts from the same numbers.
Run with the peers' Python: third_party/peers/bin/python tools/golden/models.py [NAME...]
"""
import json
import pathlib
import sys
import tempfile

import torch
import transformers
from latent_models import latent_models
from safetensors import safe_open
from safetensors.torch import save_file

SEED = 7
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
COMMON = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=48,
    max_position_embeddings=1024,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    initializer_range=0.2,
)
MODELS = {
    "llama": transformers.LlamaConfig(
        **COMMON,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
        tie_word_embeddings=False,
    ),
    "mistral": transformers.MistralConfig(
        **COMMON,
        sliding_window=8,
        head_dim=12,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=False,
    ),
    "qwen2": transformers.Qwen2Config(
        **COMMON,
        use_sliding_window=False,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    ),
    "qwen3": transformers.Qwen3Config(
        **COMMON,
        head_dim=16,
        use_sliding_window=False,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "gemma2": transformers.Gemma2Config(
        **COMMON,
        head_dim=16,
        sliding_window=8,
        query_pre_attn_scalar=24,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        hidden_activation="gelu_pytorch_tanh",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "gemma3": transformers.Gemma3TextConfig(
        **{**COMMON, "num_hidden_layers": 3},
        head_dim=16,
        sliding_window=8,
        query_pre_attn_scalar=16,
        hidden_activation="gelu_pytorch_tanh",
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "linear", "rope_theta": 1000000.0, "factor": 8.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "phi3": transformers.Phi3Config(
        **{**COMMON, "max_position_embeddings": 1024},
        sliding_window=16,
        original_max_position_embeddings=64,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 64,
            "short_factor": [1.0, 1.05, 1.1, 1.2],
            "long_factor": [1.0, 1.5, 4.0, 12.0],
        },
    ),
    "qwen3_moe": transformers.Qwen3MoeConfig(
        **COMMON,
        head_dim=16,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        norm_topk_prob=True,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "qwen3_moe_plain": transformers.Qwen3MoeConfig(
        **COMMON,
        head_dim=16,
        num_experts=5,
        num_experts_per_tok=3,
        moe_intermediate_size=16,
        norm_topk_prob=False,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "qwen3_moe_dense": transformers.Qwen3MoeConfig(
        **{**COMMON, "num_hidden_layers": 4},
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        norm_topk_prob=True,
        decoder_sparse_step=2,
        mlp_only_layers=[1],
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=2,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "mixtral": transformers.MixtralConfig(
        **{**COMMON, "intermediate_size": 24},
        num_local_experts=4,
        num_experts_per_tok=2,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "llama_bias": transformers.LlamaConfig(
        **COMMON,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "qwen3_bias": transformers.Qwen3Config(
        **COMMON,
        head_dim=12,
        attention_bias=True,
        use_sliding_window=False,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
    ),
    "gemma3_bias": transformers.Gemma3TextConfig(
        **COMMON,
        head_dim=16,
        attention_bias=True,
        sliding_window=8,
        query_pre_attn_scalar=16,
        hidden_activation="gelu_pytorch_tanh",
        layer_types=["sliding_attention", "full_attention"],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        },
    ),
    "olmo3_bias": transformers.Olmo3Config(
        **COMMON,
        attention_bias=True,
        sliding_window=8,
        tie_word_embeddings=False,
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": 500000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
        },
    ),
    "glm4": transformers.Glm4Config(
        **{**COMMON, "num_key_value_heads": 2},
        head_dim=16,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    ),
    "seed_oss": transformers.SeedOssConfig(
        **COMMON,
        head_dim=12,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000000.0},
    ),
    "ministral3": transformers.Ministral3Config(
        **COMMON,
        head_dim=12,
        tie_word_embeddings=False,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 1000000.0,
            "factor": 16.0,
            "original_max_position_embeddings": 8,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.5,
        },
    ),
    "phi4_mini": transformers.Phi3Config(
        **{**COMMON, "hidden_size": 64},
        original_max_position_embeddings=64,
        tie_word_embeddings=True,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 64,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0, 1.05, 1.1, 1.2, 1.2, 1.3],
            "long_factor": [1.0, 1.5, 4.0, 6.0, 9.0, 12.0],
        },
    ),
    "smollm3": transformers.SmolLM3Config(
        **{**COMMON, "num_hidden_layers": 5},
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 2000000.0},
    ),
    "granite": transformers.GraniteConfig(
        **COMMON,
        tie_word_embeddings=True,
        embedding_multiplier=3.0,
        attention_multiplier=0.2,
        residual_multiplier=0.6,
        logits_scaling=1.5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "olmo2": transformers.Olmo2Config(
        **COMMON, tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 500000.0}
    ),
    "olmo3": transformers.Olmo3Config(
        **{**COMMON, "num_hidden_layers": 4},
        sliding_window=8,
        tie_word_embeddings=False,
        rope_parameters={
            "full_attention": {
                "rope_type": "yarn",
                "rope_theta": 500000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            },
            "sliding_attention": {"rope_type": "default", "rope_theta": 500000.0},
        },
    ),
}
MODELS |= latent_models(COMMON)
KEPT_EXPERTS = [0, 2, 3, 5]  # of qwen3_moe: its logits without the others
LORA = {"rank": 3, "scaling": 0.5}  # on every expert of qwen3_moe's last layer


def checkpoint_parts(name, tensor, config):
    """In memory transformers 5 holds all experts of a layer in two tensors; files hold a matrix for each,
    which these are views of (but for Mistral Small 4's, which hold the two)."""
    mixtral = config.model_type == "mixtral"
    block, gate, up, down = (
        ("block_sparse_moe", "w1", "w3", "w2") if mixtral else ("mlp", "gate_proj", "up_proj", "down_proj")
    )
    if mixtral:
        name = name.replace(".mlp.", f".{block}.")
    for e in range(tensor.shape[0]) if ".experts." in name else ():
        expert = f"{name[:name.index('.experts.')]}.experts.{e}."
        if name.endswith("gate_up_proj"):
            yield f"{expert}{gate}.weight", tensor[e].chunk(2)[0]
            yield f"{expert}{up}.weight", tensor[e].chunk(2)[1]
        else:
            yield f"{expert}{down}.weight", tensor[e]
    if ".experts." not in name:
        yield name, tensor


def stored_parts(name, tensor, config):
    """The same as tensors of a file."""
    if config.model_type == "mistral4":
        yield name, tensor
    else:
        yield from checkpoint_parts(name, tensor, config)


def adapted_here(name, parameter, config):
    """Experts of the last layer; with latent attention all of its linear layers that a gradient reaches."""
    if f"layers.{config.num_hidden_layers - 1}." not in name:
        return False
    linear = parameter.dim() > 1 and not name.endswith("mlp.gate.weight") and ".indexer." not in name
    return ".experts." in name or (hasattr(config, "kv_lora_rank") and linear)


def sparse_goldens(model, config, rows):
    """Gradients of LoRA by the chain rule from those of W + s B A; of Qwen also logits of a model that never
    had some experts."""
    generator = torch.Generator().manual_seed(SEED)
    tensors, adapted = {}, {}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if not adapted_here(parameter_name, parameter, config):
                continue
            for name, part in checkpoint_parts(parameter_name, parameter, config):
                a = 0.3 * torch.randn(LORA["rank"], part.shape[1], generator=generator)
                b = 0.3 * torch.randn(part.shape[0], LORA["rank"], generator=generator)
                part.add_(LORA["scaling"] * b @ a)
                adapted[name] = (a, b)
    model.zero_grad()
    loss_of(model, rows)
    for parameter_name, parameter in model.named_parameters():
        for name, gradient in (
            checkpoint_parts(parameter_name, parameter.grad, config) if parameter.grad is not None else ()
        ):
            if name in adapted:
                a, b = adapted[name]
                stem = name.removesuffix(".weight")
                tensors |= {
                    f"lora.{stem}.a": a,
                    f"lora.{stem}.b": b,
                    f"lora_grad.{stem}.a": LORA["scaling"] * b.T @ gradient,
                    f"lora_grad.{stem}.b": LORA["scaling"] * gradient @ a.T,
                }
            elif name.endswith("mlp.gate.weight"):
                tensors[f"lora_grad.{name}"] = gradient.clone()
    if config.model_type != "qwen3_moe":
        return tensors
    small_config = type(config)(**{**config.to_dict(), "num_local_experts": len(KEPT_EXPERTS)})
    small = transformers.AutoModelForCausalLM.from_config(
        small_config, attn_implementation="eager", dtype=torch.float32
    ).eval()
    small.load_state_dict(
        {k: v[KEPT_EXPERTS] if ".experts." in k or ".mlp.gate." in k else v for k, v in state.items()}
    )
    with torch.no_grad():
        tensors["pruned.logits"] = small(torch.tensor([rows[2]])).logits[0][-4:].clone()
    return tensors


def loss_of(model, rows):
    total = 0.0
    for row in rows:
        loss = torch.nn.functional.cross_entropy(
            model(torch.tensor([row])).logits[0][:-1], torch.tensor(row[1:]), reduction="sum"
        )
        loss.backward()
        total += loss.item()
    return total


class ChoiceMargin:
    """The least difference between the last key that any indexer chose and the first that it left out, in
    units of the scores' spread. Programs add up in different orders: where it is small, they choose
    otherwise."""

    def __init__(self, model, top):
        self.least, self.top, self.inside = float("inf"), top, False
        for name, module in model.named_modules():
            if name.endswith(".indexer"):
                module.register_forward_pre_hook(lambda *_: setattr(self, "inside", True))
                module.register_forward_hook(lambda *_: setattr(self, "inside", False))

    def __enter__(self):
        self.topk = torch.Tensor.topk

        def heard(scores, k, *args, **kwargs):
            if self.inside:
                self.hear(scores)
            return self.topk(scores, k, *args, **kwargs)

        torch.Tensor.topk = heard
        return self

    def __exit__(self, *_):
        torch.Tensor.topk = self.topk

    def hear(self, scores):
        for row in scores[0]:
            row = row[row > -1e30].sort(descending=True).values
            if len(row) > self.top:
                gap = (row[self.top - 1] - row[self.top]) / row.std()
                self.least = min(self.least, gap.item())


MARGIN = 3e-4


def make(name, config, seed=SEED):
    if name != "deepseek_v32_sparse":
        return write(name, config, seed)[1]
    while True:
        margin, say = write(name, config, seed)
        if margin > MARGIN:
            return say
        print(f"seed {seed}: two keys are {margin:.1e} apart, which is too near")
        seed += 1


def write(name, config, seed):
    torch.manual_seed(seed)
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation="eager", dtype=torch.float32
    )
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "norm" in parameter_name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif parameter_name.endswith(".bias"):
                parameter.copy_(0.2 * torch.randn_like(parameter))
            parameter.copy_(parameter.to(torch.bfloat16))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("e_score_correction_bias"):
                buffer.copy_((0.3 * torch.randn_like(buffer)))
    model.eval()
    folder = ROOT / name
    folder.mkdir(parents=True, exist_ok=True)
    text = json.loads(config.to_json_string(use_diff=False))
    if name == "kimi_k2":
        text |= {"model_type": name}
    (folder / "config.json").write_text(
        json.dumps(
            {
                k: v
                for k, v in text.items()
                if (v is not None or k == "q_lora_rank") and k != "_attn_implementation"
            },
            indent=1,
            sort_keys=True,
        )
        + "\n"
    )
    kept = lambda name, part: part if name.endswith("e_score_correction_bias") else part.to(torch.bfloat16)
    state = {
        name: kept(name, part.detach()).contiguous()
        for k, v in model.state_dict().items()
        for name, part in stored_parts(k, v, config)
    }
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    with tempfile.TemporaryDirectory() as saved:  # the names are those that transformers itself writes
        model.save_pretrained(saved)
        with safe_open(f"{saved}/model.safetensors", "pt") as file:
            assert sorted(file.keys()) == sorted(state), set(file.keys()) ^ set(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with ChoiceMargin(model, getattr(config, "index_topk", 0)) as margin:
        say = write_golden(name, config, model, folder, seed)
    return margin.least, say


def write_golden(name, config, model, folder, seed):
    generator = torch.Generator().manual_seed(seed)
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
        if (
            "layers." not in parameter_name
            or last_layer in parameter_name
            or parameter_name.endswith(("norm.weight", ".bias"))
        ):
            for part_name, gradient in (
                checkpoint_parts(parameter_name, parameter.grad, config) if parameter.grad is not None else ()
            ):
                tensors["grad." + part_name] = gradient.clone()
    length = 61 if name == "deepseek_v32_sparse" else 501
    long = torch.randint(3, 96, (length,), generator=generator)
    positions = [0, 1, 7, length - 1]
    with torch.no_grad():
        tensors["positions.logits"] = model(long[None]).logits[0][positions].clone()
    if name == "qwen3_moe" or hasattr(config, "kv_lora_rank"):
        tensors |= sparse_goldens(model, config, rows)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "golden.safetensors")
    record = {
        "seed": seed,
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "rows": rows,
        "loss": total,
        "long_row": long.tolist(),
        "positions": positions,
    }
    (folder / "golden.json").write_text(json.dumps(record) + "\n")
    return f"{name} {total} {sum(f.stat().st_size for f in folder.iterdir())} bytes"


if __name__ == "__main__":
    for model_name in sys.argv[1:] or MODELS:
        print(make(model_name, MODELS[model_name]))
