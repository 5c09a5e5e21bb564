#!/usr/bin/env python3
"""Ids of hard strings from the reference tokenizers, for tests/text. Writes
tests/golden/tokenizers/*.json.gz.

Run: third_party/peers/bin/python tools/golden/tokenizer_ids.py [family ...]
Text that is not UTF-8: these references take only text, so they get bytes.decode("utf-8", "replace"), one
U+FFFD for each maximal subpart; SentencePiece takes bytes and gets them as they are.
as_text: special tokens are not parsed (encode_special_tokens / SentencePiece itself); as_tokens: they are.
"""
import gzip
import importlib.metadata
import json
import pathlib
import sys

import tokenizer_strings

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/tokenizers"
STRINGS = tokenizer_strings.hard_strings()
TEXTS = [data.decode("utf-8", "replace") for data in STRINGS]


def write(name: str, value: dict) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    (OUT / f"{name}.json.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(name, (OUT / f"{name}.json.gz").stat().st_size, "bytes")


def versions(*packages: str) -> dict:
    return {package: importlib.metadata.version(package) for package in packages} | {
        "seed": tokenizer_strings.SEED
    }


def with_tokenizers(tokenizer) -> dict:
    """Ids from a tokenizers.Tokenizer, both ways."""
    ids = {}
    for key, as_text in (("as_text", True), ("as_tokens", False)):
        tokenizer.encode_special_tokens = as_text
        ids[key] = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    tokenizer.encode_special_tokens = False
    ids["decoded"] = [tokenizer.decode(row, skip_special_tokens=True) for row in ids["as_tokens"]]
    return ids


def gguf_fields(path: pathlib.Path) -> dict:
    import gguf

    reader = gguf.GGUFReader(path)
    return {name: field.contents() for name, field in reader.fields.items() if name.startswith("tokenizer.")}


def smollm2() -> None:
    # transformers' own conversion from GGUF leaves the split of digits out, so the published pre-tokenizer is
    # put together here;
    # llama.cpp's tokenizer is asked as a second reference.
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    path = ROOT / "checkpoints/smollm2-135m-instruct-q4_1.gguf"
    fields = gguf_fields(path)
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"])
            if kind == 3
        ]
    )
    ids = with_tokenizers(tokenizer)
    import llama_cpp

    llama = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for special, key in ((False, "as_text"), (True, "as_tokens")):
        for text, row in zip(TEXTS, ids[key]):
            second = llama.tokenize(text.encode(), add_bos=False, special=special)
            if second != row and "\0" not in text:
                print("llama.cpp differs:", key, repr(text), row, second)
    write(
        "smollm2",
        {
            "reference": "tokenizers, Digits(individual) + ByteLevel over the GGUF's vocabulary",
            "versions": versions("tokenizers"),
        }
        | ids,
    )


def sentencepiece_ids(path: pathlib.Path) -> dict:
    import re

    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    controls = [
        processor.IdToPiece(i)
        for i in range(processor.GetPieceSize())
        if processor.IsControl(i) or processor.IsUnknown(i)
    ]
    pattern = re.compile(
        b"(" + b"|".join(re.escape(text.encode()) for text in sorted(controls, key=len, reverse=True)) + b")"
    )
    as_tokens = []
    for data in STRINGS:  # control pieces cut out, every part encoded on its own, as mistral-common does
        row = []
        for i, part in enumerate(pattern.split(data)):
            row += [processor.PieceToId(part.decode())] if i % 2 else processor.Encode(part) if part else []
        as_tokens.append(row)
    return {
        "reference": "sentencepiece",
        "versions": versions("sentencepiece"),
        "as_text": [processor.Encode(data) for data in STRINGS],
        "as_tokens": as_tokens,
    }


def mistral_v1() -> None:
    write(
        "mistral-v1",
        sentencepiece_ids(ROOT / "third_party/inputs/mistral/mistral_common/data/tokenizer.model.v1"),
    )


def mistral_v3() -> None:
    write(
        "mistral-v3",
        sentencepiece_ids(
            ROOT / "third_party/inputs/mistral/mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"
        ),
    )


def tekken() -> None:
    import base64

    import tiktoken

    data = json.loads(
        (ROOT / "third_party/inputs/mistral/mistral_common/data/tekken_240718.json").read_text()
    )
    count = data["config"]["default_vocab_size"] - data["config"]["default_num_special_tokens"]
    specials = data["config"]["default_num_special_tokens"]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in data["vocab"][:count]}
    encoding = tiktoken.Encoding(
        "tekken", pat_str=data["config"]["pattern"], mergeable_ranks=ranks, special_tokens={}
    )
    write(
        "tekken",
        {
            "reference": "tiktoken; the special tokens take the first 1000 ids",
            "versions": versions("tiktoken"),
            "as_text": [[specials + i for i in encoding.encode_ordinary(text)] for text in TEXTS],
        },
    )


CORPUS = (
    TEXTS * 3
    + [
        "The quick brown fox jumps over the lazy dog, and the dog doesn't mind; it's used to that.\n",
        "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n",
        "Type 2 diabetes mellitus with diabetic chronic kidney disease, initial encounter.",
        "Permission is hereby granted, free of charge, to any person obtaining a copy of this software.",
        "You're sure they've said that we'll go? I'd rather not, he's tired.",
        "for (int i = 0; i < 10; ++i) { sum += values[i]; }",
        "北京是中国的首都。東京は日本の首都です。",
        "Быстрая коричневая лиса прыгает через ленивую собаку.",
    ]
    * 10
)

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SEED = QWEN2.replace(r"\p{N}|", r"\p{N}{1}|").replace(r"[^\s\p{L}\p{N}]+[\r\n]*", r"[^\s\p{L}\p{N}\r\n]+")
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
DEEPSEEK_LLM = [
    "[\r\n]",
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ"
    r"ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛ"
    r"Ꜣ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    "[一-龥ࠀ-一가-퟿]+",
]
KIMI = (
    r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def kimi() -> None:
    """tiktoken.model of ranks that are trained here, with the control tokens behind them."""
    import base64

    import tiktoken
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(KIMI), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=1200, initial_alphabet=alphabet, show_progress=False)
    )
    spelled = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    # GPT-2's alphabet
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    bytes_of = {chr(b): b for b in printable}
    bytes_of |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
    ranks = {bytes(bytes_of[c] for c in token): rank for token, rank in spelled}
    assert sorted(ranks.values()) == list(range(len(ranks)))
    named = {
        "[BOS]": 0,
        "[EOS]": 1,
        "<|im_end|>": 2,
        "<|im_user|>": 3,
        "<|tool_call_begin|>": 11,
        "[PAD]": 255,
    }
    first = len(ranks)
    specials = {f"<|reserved_token_{first + i}|>": first + i for i in range(256) if i not in named.values()}
    specials |= {text: first + i for text, i in named.items()}
    encoding = tiktoken.Encoding("kimi", pat_str=KIMI, mergeable_ranks=ranks, special_tokens=specials)
    config = {
        "tokenizer_class": "TikTokenTokenizer",
        "auto_map": {"AutoTokenizer": ["tokenization_kimi.TikTokenTokenizer", None]},
        "added_tokens_decoder": {
            str(first + i): {"content": text, "special": text != "<|tool_call_begin|>"}
            for text, i in named.items()
        },
        "bos_token": "[BOS]",
        "eos_token": "[EOS]",
        "pad_token": "[PAD]",
    }
    write(
        "kimi",
        {
            "reference": "tiktoken; ranks trained on a few lines",
            "versions": versions("tiktoken"),
            "tiktoken_model": "".join(
                f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()
            ),
            "tokenizer_config": config,
            "as_text": [encoding.encode_ordinary(text) for text in TEXTS],
            "as_tokens": [encoding.encode(text, allowed_special="all") for text in TEXTS],
        },
    )


def save_trained(name: str, tokenizer, note: str) -> None:
    """A small tokenizer of the family's make, trained here, with its own ids: the published vocabularies are
    not at hand."""
    write(
        name,
        {
            "reference": f"tokenizers; {note}; vocabulary trained on a few lines",
            "versions": versions("tokenizers"),
            "tokenizer_json": tokenizer.to_str(),
        }
        | with_tokenizers(tokenizer),
    )


def byte_level(
    name: str,
    patterns: list[str],
    specials: list[str],
    others: list[str] = (),
    nfc: bool = False,
    ignore_merges: bool = False,
    use_regex: bool = False,
    normalized: bool = False,
    digits: bool = False,
) -> None:
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        trainers,
    )

    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False) for pattern in patterns]
    if digits:
        splits.append(pre_tokenizers.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        splits + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=1200, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        ),
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=normalized) for token in others])
    save_trained(name, tokenizer, f"splits {patterns}, NFC {nfc}, ignore_merges {ignore_merges}")


def spaces_marked(
    name: str, prefix: str, specials: list, gemma: bool = False, pieces: list[str] | None = None
) -> None:
    """SentencePiece-like BPE in a tokenizer.json; prefix is 'prepend' (normalizer), 'first' (Metaspace) or
    ''."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    base = Tokenizer(models.BPE())
    base.normalizer = normalizers.Replace(" ", "▁")
    # Without Gemma's no-op split, words are kept apart while training, as SentencePiece does; with it, tokens
    # reach over spaces.
    if not gemma:
        base.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never", split=True)
    import re  # a merge must not spell a control token

    base.train_from_iterator(
        [re.sub(r"</?s>|<(unk|pad|bos|eos)>|\[/?INST\]", "", text[:200]) for text in CORPUS],
        trainers.BpeTrainer(vocab_size=900, limit_alphabet=250, max_token_length=16, show_progress=False),
    )
    trained = json.loads(base.to_str())["model"]
    order = ["<pad>", "<eos>", "<bos>", "<unk>"] if gemma else ["<unk>", "<s>", "</s>"]
    order += [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = pieces or []
    first = len(order)
    order += pieces + [
        token
        for token, _ in sorted(trained["vocab"].items(), key=lambda item: item[1])
        if token not in pieces
    ]
    vocab = {token: i for i, token in enumerate(order)}
    # As transformers lists the merges of a SentencePiece model: every split of a token into two tokens, best
    # token first.
    made = set(order[first:])
    merges = [
        (token[:cut], token[cut:])
        for token in order[first:]
        for cut in range(1, len(token))
        if token[:cut] in made and token[cut:] in made
    ]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    if prefix == "prepend":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace])
    elif prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=False
        )
    else:
        tokenizer.normalizer = replace
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()] + strip
    )
    for token in specials:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    save_trained(name, tokenizer, f"prefix '{prefix}', byte fallback")


def added(text: str, special: bool = True, **options):
    from tokenizers import AddedToken

    return AddedToken(text, special=special, normalized=options.pop("normalized", False), **options)


def unigram() -> None:
    """A unigram model with normalization rules: what libsentencepiece itself runs."""
    import base64
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text for text in CORPUS if text.strip() and "\0" not in text]),
        model_writer=model,
        vocab_size=1200,
        model_type="unigram",
        byte_fallback=True,
        normalization_rule_name="nmt_nfkc",
        user_defined_symbols=["<sep>", "[INST]"],
        control_symbols=["<|im_start|>"],
        minloglevel=2,
        hard_vocab_limit=False,
    )
    path = pathlib.Path("/tmp/retort-unigram.model")
    path.write_bytes(model.getvalue())
    ids = sentencepiece_ids(path)
    # Between segmentations of equal score the library's version and its rounding decide: those rows are left
    # out.
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for i, data in enumerate(STRINGS):
        best = [
            candidate.score
            for candidate in processor.NBestEncode(data, nbest_size=2, return_type="proto").nbests
        ]
        if len(best) == 2 and abs(best[0] - best[1]) < 1e-3:
            ids["as_text"][i] = ids["as_tokens"][i] = None
    print("rows left out:", ids["as_text"].count(None))
    write("unigram", ids | {"model": base64.b64encode(model.getvalue()).decode()})
    path.unlink()


# Gemma's runs are user-defined pieces, with merges like any other
RUNS = ["\n" * n for n in range(2, 8)] + ["▁" * n for n in range(2, 17)]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# GGUF's name of a pre-tokenizer, and the vocabulary stored here that it is asked with.
NAMES = {
    "llama-bpe": "llama3",
    "lfm2": "llama3",
    "glm4": "llama3",
    "dbrx": "dbrx",
    "smaug-bpe": "dbrx",
    "gpt-4o": "o200k",
    "llama4": "o200k",
    "deepseek-v3": "deepseek-v3",
    "hunyuan-dense": "deepseek-v3",
    "joyai-llm": "deepseek-v3",
    "seed-coder": "seed",
    "deepseek-llm": "deepseek-llm",
    "kimi-k2": "kimi-json",
}


def names() -> None:
    """Asks llama.cpp for the ids of the hard strings under each name; prints those it gives other ids."""
    import tempfile

    import gguf
    import llama_cpp

    for name, vocabulary in NAMES.items():
        stored = json.loads(gzip.decompress((OUT / f"{vocabulary}.json.gz").read_bytes()))
        tokenizer = json.loads(stored["tokenizer_json"])
        ids = dict(tokenizer["model"]["vocab"])
        kinds = {}
        for added_token in tokenizer["added_tokens"]:
            ids[added_token["content"]] = added_token["id"]
            kinds[added_token["content"]] = 3 if added_token["special"] else 4
        tokens = sorted(ids, key=ids.get)
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            writer = gguf.GGUFWriter(file.name, "llama")
            writer.add_tokenizer_model("gpt2")
            writer.add_tokenizer_pre(name)
            writer.add_token_list(tokens)
            writer.add_token_types([kinds.get(token, 1) for token in tokens])
            writer.add_token_merges(
                [
                    merge if isinstance(merge, str) else " ".join(merge)
                    for merge in tokenizer["model"]["merges"]
                ]
            )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            llama = llama_cpp.Llama(file.name, vocab_only=True, verbose=False)
            asked = [i for i, text in enumerate(TEXTS) if "\0" not in text]
            others = [
                i
                for i in asked
                if llama.tokenize(TEXTS[i].encode(), add_bos=False, special=False) != stored["as_text"][i]
            ]
        print(
            f"{name}: llama.cpp gives other ids for {len(others)} of {len(asked)} strings: "
            f"{[TEXTS[i][:24] for i in others[:6]]}"
        )


FAMILIES = {
    "smollm2": smollm2,
    "mistral-v1": mistral_v1,
    "mistral-v3": mistral_v3,
    "tekken": tekken,
    "gpt2": lambda: byte_level("gpt2", [], ["<|endoftext|>"], use_regex=True),
    "llama3": lambda: byte_level(
        "llama3",
        [LLAMA3],
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        ignore_merges=True,
    ),
    "dbrx": lambda: byte_level("dbrx", [LLAMA3], CHATML),
    "seed": lambda: byte_level(
        "seed", [SEED], ["<seed:bos>", "<seed:eos>"], ["<seed:think>", "</seed:think>"]
    ),
    "qwen2": lambda: byte_level(
        "qwen2", [QWEN2], CHATML, ["<tool_call>", "</tool_call>", "<think>", "</think>"], nfc=True
    ),
    "qwen35": lambda: byte_level("qwen35", [QWEN35], CHATML, ["<think>", "</think>"], nfc=True),
    "o200k": lambda: byte_level("o200k", [O200K], ["<|endoftext|>", "<|end|>", "<|user|>"]),
    "tekken-json": lambda: byte_level(
        "tekken-json", [TEKKEN], ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"], ignore_merges=True
    ),
    "deepseek-v3": lambda: byte_level(
        "deepseek-v3",
        DEEPSEEK,
        ["<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
        ["<think>", "</think>"],
        normalized=True,
    ),
    "deepseek-llm": lambda: byte_level(
        "deepseek-llm",
        DEEPSEEK_LLM,
        ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"],
        ["User:", "Assistant:"],
        digits=True,
    ),
    "kimi": kimi,
    "kimi-json": lambda: byte_level(
        "kimi-json", [KIMI], ["[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>"], ignore_merges=True
    ),
    "llama2": lambda: spaces_marked("llama2", "prepend", [added("<unk>"), added("<s>"), added("</s>")]),
    "phi3": lambda: spaces_marked(
        "phi3",
        "prepend",
        [
            added("<unk>"),
            added("<s>"),
            added("</s>", rstrip=True),
            added("<|end|>", rstrip=True),
            added("<|user|>", rstrip=True),
            added("<|assistant|>", rstrip=True),
        ],
    ),
    "metaspace": lambda: spaces_marked(
        "metaspace", "first", [added("<unk>"), added("<s>"), added("</s>"), added("[INST]"), added("[/INST]")]
    ),
    "gemma": lambda: spaces_marked(
        "gemma",
        "",
        [added(text) for text in ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")]
        + [added(text, special=False) for text in RUNS],
        gemma=True,
        pieces=RUNS,
    ),
    "unigram": unigram,
    "names": names,
}

if __name__ == "__main__":
    write("strings", {"hex": [data.hex() for data in STRINGS], "seed": tokenizer_strings.SEED})
    for family in sys.argv[1:] or FAMILIES:
        FAMILIES[family]()
