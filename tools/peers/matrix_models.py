"""The tiny random models of tools/peers/family_matrix.py: families, shapes, tokenizers and the recipes that
train them."""
import io
import json
import pathlib

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEXTS = [
    "The tide rises twice a day.",
    "Bees keep honey for the winter.",
    "A book is sewn, glued and pressed.",
    "Two and two make four, 42.",
    "Rivers run to the sea in spring.",
    "The hive is quiet at night.",
]
HELD_OUT = ["The sea is quiet at night and honey is sewn twice.", "A river of 42 books runs in the winter."]
CHATS = [("What rises?", "The tide."), ("Who keeps honey?", "Bees in the hive.")]
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
START, END, OLD_END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
WINDOW = 8
CLASSES = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
    "gemma2": "Gemma2Config",
    "gemma3": "Gemma3TextConfig",
    "phi3": "Phi3Config",
    "qwen3_moe": "Qwen3MoeConfig",
    "mixtral": "MixtralConfig",
    "smollm3": "SmolLM3Config",
    "granite": "GraniteConfig",
    "olmo2": "Olmo2Config",
    "olmo3": "Olmo3Config",
    "glm4": "Glm4Config",
    "seed_oss": "SeedOssConfig",
    "ministral3": "Ministral3Config",
    "deepseek_v2": "DeepseekV2Config",
    "deepseek_v3": "DeepseekV3Config",
    "deepseek_v32": "DeepseekV32Config",
    "glm4_moe_lite": "Glm4MoeLiteConfig",
    "kimi_k2": "DeepseekV3Config",  # its own code is DeepSeek V3's; transformers has no class of it
    "mistral4": "Mistral4Config",
}
FAMILIES = list(CLASSES)
LATENT = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "kimi_k2", "mistral4")
SPARSE = ("qwen3_moe", "mixtral") + LATENT


GROWING = ("ministral3", "mistral4")  # queries grow along a text


class NoSuchModel(Exception):
    """The family has nothing of the kind."""


def rope(**values):
    def change(family):
        if family in LATENT and "long_factor" in values:
            raise NoSuchModel
        scaled = {"rope_theta": 10000.0, **values}
        if family == "glm4":  # half of a head is rotated
            scaled |= {
                key: list[:4] for key, list in values.items() if key.endswith("_factor") and key in LONG
            }
        if family in GROWING:
            scaled = {"original_max_position_embeddings": 8, "llama_4_scaling_beta": 0.5, **scaled}
        if family == "olmo3":
            return {
                "rope_parameters": {
                    "full_attention": scaled,
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                }
            }
        if family != "gemma3":
            return {"rope_parameters": scaled}
        return {
            "rope_parameters": {
                "full_attention": {**scaled, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        }

    return change


def window(family):
    if family.startswith("qwen"):
        return {"sliding_window": WINDOW, "use_sliding_window": True, "max_window_layers": 1}
    if family == "smollm3":
        return {"sliding_window": WINDOW, "use_sliding_window": True}
    if family in ("granite", "olmo2", "glm4", "seed_oss") + LATENT:
        raise NoSuchModel
    return {"sliding_window": WINDOW}


def biases(family):
    if family == "glm4":  # its queries have one in every other shape
        return {"attention_bias": False}
    return {"attention_bias": True} | (
        {"attention_out_bias": True, "mlp_bias": True} if family == "seed_oss" else {}
    )


def experts(family):
    if family not in SPARSE:
        raise NoSuchModel
    if family in LATENT:
        return {
            "num_experts_per_tok": 3,
            "n_routed_experts": 9,
            "n_group": 3,
            "topk_group": 2,
            "n_shared_experts": 2,
            "norm_topk_prob": False,
        } | ({"topk_method": "group_limited_greedy"} if family == "deepseek_v2" else {})
    return {"num_experts_per_tok": 3, "num_local_experts" if family == "mixtral" else "num_experts": 5}


def dense_layers(family):
    """One sparse layer of four; a DeepSeek has its dense ones in every shape."""
    if family != "qwen3_moe":
        raise NoSuchModel
    return {"num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [1]}


def latent(**values):
    """Shapes that only latent attention has."""

    def change(family):
        # its indexer reads the queries' latent
        if family not in LATENT or (family == "deepseek_v32" and "q_lora_rank" in values):
            raise NoSuchModel
        if "rope_parameters" in values:
            return rope(**values["rope_parameters"])(family)
        if family == "glm4_moe_lite" and "first_k_dense_replace" in values:
            return {"mlp_layer_types": ["dense"] * values["first_k_dense_replace"] + ["sparse"]}
        return values

    return change


def sparse_attention(family):
    """Texts of which attention leaves tokens out."""
    if family != "deepseek_v32":
        raise NoSuchModel
    return {"index_topk": 24}


def tokenizer_model(family):
    # transformers 5 puts the space of others elsewhere than SentencePiece does
    if not family.startswith("gemma"):
        raise NoSuchModel
    return {"_tokenizer": "tokenizer.model"}


LONG = {"short_factor": [1.0 + 0.1 * i for i in range(8)], "long_factor": [2.0 + 0.2 * i for i in range(8)]}

# Each shape: what it changes in the config. Keys that begin with "_" say how the folder, the tokenizer or the
# recipe differ.
SHAPES = {
    "plain": {},
    "odd-heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 48},
    "gqa3": {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48},
    "gqa7": {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112},
    "wide-heads": {"head_dim": 32},
    "padded-vocabulary": {"_padding": 61},
    "rope-linear": rope(rope_type="linear", factor=4.0),
    "rope-llama3": rope(
        rope_type="llama3",
        factor=8.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    ),
    "rope-yarn": rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    "yarn-betas": rope(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=4.0, beta_slow=2.0
    ),
    "rope-longrope": rope(rope_type="longrope", factor=4.0, original_max_position_embeddings=64, **LONG),
    "rope-dynamic": rope(rope_type="dynamic", factor=4.0),
    "window": window,
    "experts": experts,
    "dense-layers": dense_layers,
    "deepseek-yarn": latent(
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 32,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        }
    ),
    "wide-values": latent(v_head_dim=24, qk_nope_head_dim=8),
    "whole-queries": latent(q_lora_rank=None),
    "all-dense": latent(first_k_dense_replace=2),
    "sparse-attention": sparse_attention,
    "biases": biases,
    "other-head": {"_flip_tie": True},
    "f32": {"_dtype": "float32"},
    "f16": {"_dtype": "float16"},
    "sharded": {"_shard": "60KB"},
    "pruned": {"_prune": [0, 2], "num_hidden_layers": 3},
    "named-template": {"_no_template": True},
    "added-tokens": {"_added": ["<tool>", "<|note|>"]},
    "sentencepiece": {"_tokenizer": "tokenizer.json"},
    "tokenizer-model": tokenizer_model,
}


# Shapes of the matrices that adapters are put on: in the others all kinds of adapters meet the same matrices.
OF_LAYERS = (
    "plain",
    "odd-heads",
    "gqa3",
    "gqa7",
    "wide-heads",
    "experts",
    "dense-layers",
    "other-head",
    "f16",
    "pruned",
)


def byte_level_tokenizer(extra):
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    byte = Tokenizer(models.BPE())
    byte.normalizer = normalizers.NFC()
    byte.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    byte.decoder, byte.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=316, initial_alphabet=alphabet, show_progress=False)
    byte.train_from_iterator(TEXTS + HELD_OUT, trainer)
    byte.add_special_tokens([OLD_END, START, END])
    byte.add_tokens(extra)
    return PreTrainedTokenizerFast(tokenizer_object=byte, eos_token=OLD_END, pad_token=OLD_END)


def write_sentencepiece(folder, family):
    """tokenizer.model, with the tokens of the template beside it in added_tokens.json."""
    import sentencepiece

    written = io.BytesIO()
    gemma = family.startswith("gemma")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS + HELD_OUT),
        model_writer=written,
        model_type="bpe",
        vocab_size=340,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=not gemma,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        minloglevel=2,
        user_defined_symbols=["\u2581\u2581", "\u2581\u2581\u2581"] if gemma else [],
    )
    count = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue()).get_piece_size()
    (folder / "tokenizer.model").write_bytes(written.getvalue())
    added = {OLD_END: count, START: count + 1, END: count + 2}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    settings = {
        "tokenizer_class": "GemmaTokenizer" if gemma else "LlamaTokenizer",
        "bos_token": "<s>",
        "eos_token": END,
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "add_bos_token": True,
        "chat_template": CHATML,
        "added_tokens_decoder": {str(id): {"content": text, "special": True} for text, id in added.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_tokenizer(folder, family, own):
    """Returns the tokenizer as transformers reads it."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    if own.get("_tokenizer"):
        write_sentencepiece(folder, family)
        (folder / "config.json").write_text(
            json.dumps({"model_type": CLASSES[family].removesuffix("Config").lower()})
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if own["_tokenizer"] == "tokenizer.json":
            for file in list(folder.iterdir()):
                file.unlink()
            tokenizer.save_pretrained(folder)
        return tokenizer
    tokenizer = byte_level_tokenizer(own.get("_added", []))
    if not own.get("_no_template"):
        tokenizer.chat_template, tokenizer.eos_token = CHATML, END
    tokenizer.save_pretrained(folder)
    return tokenizer


def settings_of(family, shape):
    # every head has a key of its own, of widths with other names
    if family in LATENT and shape in ("gqa3", "gqa7", "wide-heads"):
        raise NoSuchModel
    change = SHAPES[shape]
    change = dict(change(family) if callable(change) else change)
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 256,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "initializer_range": 0.2,
        "sliding_window": None,
    }
    if family.startswith("gemma"):
        config |= {"sliding_window": 64, "query_pre_attn_scalar": 16}
    if family == "gemma3":
        config["num_hidden_layers"] = 6
    if family in ("smollm3", "olmo3"):  # every fourth layer is another
        config["num_hidden_layers"] = 4
    if family == "olmo3":
        config["sliding_window"] = 64
    if family == "granite":
        config |= {
            "embedding_multiplier": 3.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.6,
            "logits_scaling": 1.5,
        }
    if family in LATENT:
        config |= {
            "num_hidden_layers": 3,
            "num_key_value_heads": 4,
            "q_lora_rank": 24,
            "kv_lora_rank": 32,
            "qk_nope_head_dim": 16,
            "qk_rope_head_dim": 8,
            "v_head_dim": 12,
            "moe_intermediate_size": 32,
            "n_routed_experts": 8,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "n_group": 4,
            "topk_group": 2,
            "first_k_dense_replace": 1,
            # llama.cpp has it in the norms inside of attention too, where transformers has this one
            "rms_norm_eps": 1e-6,
        }
        config.pop("head_dim"), config.pop("sliding_window")
    if family == "deepseek_v2":
        config |= {"topk_method": "greedy", "norm_topk_prob": False}
    if family == "glm4_moe_lite":
        config.pop("first_k_dense_replace")  # its class knows a list of layers instead
    if family == "kimi_k2":
        config |= {"n_group": 1, "topk_group": 1}
    if family in GROWING:
        config |= rope(rope_type="yarn", factor=4.0, mscale=1.0, mscale_all_dim=1.0)(family)
    if family == "deepseek_v32":
        # llama.cpp turns its heads by a Hadamard matrix, of which the smallest has 64 rows
        config |= {"index_topk": 128, "index_n_heads": 8, "index_head_dim": 64}
    elif family in SPARSE and family not in LATENT:
        config |= {"num_experts_per_tok": 2, "num_local_experts" if family == "mixtral" else "num_experts": 4}
    if family == "qwen3_moe":
        config |= {"moe_intermediate_size": 32, "norm_topk_prob": True}
    own = {key: change.pop(key) for key in list(change) if key.startswith("_")}
    if family == "mistral4":  # PEFT has no DoRA of whole parameters, which its experts are
        own["_targets"] = {"dora": ["auto"]}
    config |= change
    tied = family.startswith("gemma") or family.startswith("qwen3")
    config["tie_word_embeddings"] = tied != bool(own.get("_flip_tie"))
    return config, own


def make_model(folder, family, shape):
    """Writes the folder as transformers does; returns what the recipe adds."""
    import torch
    import transformers

    know_all_classes()
    settings, own = settings_of(family, shape)
    tokenizer = write_tokenizer(folder, family, own)
    end = tokenizer.convert_tokens_to_ids(OLD_END if own.get("_no_template") else END)
    try:
        config = getattr(transformers, CLASSES[family])(
            **settings,
            vocab_size=len(tokenizer) + own.get("_padding", 0),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            pad_token_id=None,
        )
    except Exception as error:  # transformers knows which kinds of rope a family has
        raise NoSuchModel(str(error)) from error
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.uniform_(-0.2, 0.2)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
            elif "norm" in name:
                parameter.add_(torch.empty_like(parameter).uniform_(-0.3, 0.3))  # no two norms are alike
            if ".gate.weight" in name:
                parameter.mul_(4)  # decided routers: rounding elsewhere changes no choice
    model.generation_config.eos_token_id = end
    dtype = getattr(torch, own.get("_dtype", "bfloat16"))
    model.to(dtype).save_pretrained(folder, max_shard_size=own.get("_shard", "5GB"))
    if family == "kimi_k2":
        text = json.loads((folder / "config.json").read_text()) | {"model_type": family}
        (folder / "config.json").write_text(json.dumps(text, indent=1))
    return own


def know_all_classes():
    """transformers 5.23 has this class, and forgot it in the list that AutoModelForCausalLM looks at."""
    import transformers

    transformers.AutoModelForCausalLM.register(
        transformers.Mistral4Config, transformers.Mistral4ForCausalLM, exist_ok=True
    )


def config_of(folder):
    """What AutoConfig reads; of a kimi_k2 what it reads of the same model as a deepseek_v3."""
    import transformers

    know_all_classes()
    text = json.loads((folder / "config.json").read_text())
    if text["model_type"] != "kimi_k2":
        return transformers.AutoConfig.from_pretrained(folder)
    return transformers.DeepseekV3Config(**text | {"model_type": "deepseek_v3"})


def write_records(folder):
    """train, held_out and questions; of each side the texts and the conversations."""
    chats = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in CHATS
    ]
    for name, records in (
        ("train", [{"text": text} for text in TEXTS]),
        ("held_out", [{"text": text} for text in HELD_OUT]),
        ("questions", chats),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def write_recipe(folder, name, model, kind, own, merged="none", gguf=(), asks=False):
    """`asks`: retort learns the answers to the questions and gives them with every file that it writes."""
    write_records(folder)
    sources = [{"path": str(folder / f"{name}.jsonl"), "use": name} for name in ("train", "held_out")]
    recipe = {
        "model": {"path": str(model), "compute": "f32"},
        "data": {"sources": sources},
        "adapter": {
            "kind": kind,
            "rank": 4,
            "alpha": 8,
            "targets": own.get("_targets", {}).get(kind, ["all"]),
        },
        "train": {
            "steps": 40 if asks else 2,
            "threads": 1,
            "batch": {"samples": 8 if asks else 4},
            "optimizer": {"learning_rate": 0.02},
        },
        "eval": {"threads": 1},
        "export": {"adapter": True, "merged": merged, "gguf": list(gguf)},
        "run": {"folder": str(folder / name)},
    }
    if asks:
        sources.append({"path": str(folder / "questions.jsonl"), "use": "train"})
        recipe["eval"]["tasks"] = [
            {"kind": "completion", "path": str(folder / "questions.jsonl"), "max_tokens": 16}
        ]
    if own.get("_no_template"):
        recipe["data"]["template"] = "chatml"
    if kind == "none":
        recipe["prune"] = {"keep_layers": own["_prune"]}
    (folder / f"{name}.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return folder / f"{name}.yaml", folder / name
