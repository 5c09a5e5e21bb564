#!/usr/bin/env python3
"""A random model with experts and SmolLM2's tokenizer, as transformers writes it, to run recipes on and to
open their exports with others:

    third_party/peers/bin/python tools/peers/sparse_model.py qwen3_moe /tmp/qwen3_moe
    retort run RECIPE model.path=/tmp/qwen3_moe export.gguf=[F32] run.folder=/tmp/run
    third_party/peers/bin/python tools/peers/check_exports.py /tmp/run --base /tmp/qwen3_moe
"""
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMON = dict(
    vocab_size=49152,
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=1024,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=2,
    initializer_range=0.2,
    num_experts_per_tok=2,
)
CONFIGS = {
    "qwen3_moe": lambda: transformers.Qwen3MoeConfig(
        **COMMON,
        head_dim=16,
        intermediate_size=96,
        moe_intermediate_size=32,
        num_experts=8,
        norm_topk_prob=True,
        tie_word_embeddings=True,
    ),
    "mixtral": lambda: transformers.MixtralConfig(
        **COMMON, intermediate_size=96, num_local_experts=4, tie_word_embeddings=False
    ),
}

family, folder = sys.argv[1], pathlib.Path(sys.argv[2])
torch.manual_seed(7)
model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family](), dtype=torch.bfloat16)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if ".gate.weight" in name:
            parameter.mul_(4)  # decided routers: rounding elsewhere changes no choice
model.save_pretrained(folder)
transformers.AutoTokenizer.from_pretrained(
    ROOT / "checkpoints", gguf_file="smollm2-135m-instruct-q4_1.gguf"
).save_pretrained(folder)
