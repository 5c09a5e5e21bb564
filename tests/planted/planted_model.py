"""A model of two tiny layers that retort and transformers open alike, written without torch: random weights,
a token a byte, ChatML. Faults are planted into copies of it."""
import json
import pathlib
import random
import shutil
import struct

HIDDEN, LAYERS, HEADS, KEY_HEADS, INNER, CONTEXT = 32, 2, 4, 2, 64, 512
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<pad>", "<|im_start|>", "<|im_end|>")


def byte_names():
    """GPT-2's names of the 256 bytes, in their order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    names = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [names[byte] for byte in range(256)]


VOCABULARY = 256 + len(SPECIAL) + 1  # the one merge of a tokenizer that must have one


def tensors():
    """name -> shape; the head is the embedding."""
    width = HIDDEN // HEADS
    shapes = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        of = f"model.layers.{layer}."
        shapes |= {
            of + "input_layernorm.weight": (HIDDEN,),
            of + "post_attention_layernorm.weight": (HIDDEN,),
            of + "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            of + "self_attn.k_proj.weight": (KEY_HEADS * width, HIDDEN),
            of + "self_attn.v_proj.weight": (KEY_HEADS * width, HIDDEN),
            of + "self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            of + "mlp.gate_proj.weight": (INNER, HIDDEN),
            of + "mlp.up_proj.weight": (INNER, HIDDEN),
            of + "mlp.down_proj.weight": (HIDDEN, INNER),
        }
    return shapes


def safetensors(shapes, value):
    """The bytes of a file of float32; value(name) draws one number."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, shape in shapes.items():
        count = 1
        for size in shape:
            count *= size
        data = struct.pack(f"<{count}f", *(value(name) for _ in range(count)))
        header[name] = {
            "dtype": "F32",
            "shape": list(shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def weights(not_numbers_in=""):
    draws = random.Random(7)

    def value(name):
        if name == not_numbers_in:
            return float("nan")
        return 1.0 if "norm" in name else draws.gauss(0, 0.05)

    return safetensors(tensors(), value)


def adapter(folder, hidden):
    """A LoRA of rank 4 on q_proj, for a base of this width."""
    folder.mkdir(parents=True)
    shapes = {}
    for layer in range(LAYERS):
        of = f"base_model.model.model.layers.{layer}.self_attn.q_proj."
        shapes |= {of + "lora_A.weight": (4, hidden), of + "lora_B.weight": (hidden, 4)}
    draws = random.Random(3)
    (folder / "adapter_model.safetensors").write_bytes(safetensors(shapes, lambda _: draws.gauss(0, 0.01)))
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "lora_dropout": 0.0}
    config |= {"target_modules": ["q_proj"], "bias": "none", "base_model_name_or_path": "another"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def config():
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_HEADS,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "bos_token_id": SPECIAL.index("<|im_start|>"),
        "eos_token_id": SPECIAL.index("<|im_end|>"),
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }


def tokenizer(more=()):
    names = [*SPECIAL, *byte_names(), "!!", *more]
    added = [
        {
            "id": names.index(name),
            "content": name,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for name in (*SPECIAL, *more)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": ["! !"],
        },
    }


def tokenizer_config(template=CHATML):
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<pad>",
        "model_max_length": CONTEXT,
    }
    return settings | ({"chat_template": template} if template else {})


def write_model(folder: pathlib.Path):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config()))
    (folder / "model.safetensors").write_bytes(weights())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer()))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config()))
    return folder


def copy_of(model: pathlib.Path, folder: pathlib.Path):
    return pathlib.Path(shutil.copytree(model, folder))
