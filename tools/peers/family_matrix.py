#!/usr/bin/env python3
"""Tiny random models of every family at unusual shapes, trained by retort for two steps, exported in every way and opened by others.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/family_matrix.py [--family F ...] [--shape S ...] [--keep FOLDER] [--jobs 2]

The reference is transformers' own model with PEFT's adapter on it, in fp32. A cell is "equal" (logits as close as the export's type
allows), "refused" (retort said why before it trained) or "WRONG". Known faults are listed in known_faults.txt, one `family shape export: reason`
a line; the command fails on a wrong cell that is not listed and on a listed cell that is no longer wrong.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
ROOT = pathlib.Path(__file__).resolve().parents[2]
EXACT = 1e-4        # of the largest logit: two programs in fp32 on the same numbers
GELU_TABLE = 5e-3   # llama.cpp looks GELU up in a table of 16-bit floats
EXPORTS = ["lora", "rslora", "dora", "merged-f32", "merged-bf16", "gguf-F32", "gguf-Q8_0", "gguf-Q4_K_M", "from-gguf"]
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
TEXTS = ["The tide rises twice a day.", "Bees keep honey for the winter.", "A book is sewn, glued and pressed.", "Two and two make four, 42.",
         "Rivers run to the sea in spring.", "The hive is quiet at night."]
HELD_OUT = ["The sea is quiet at night and honey is sewn twice.", "A river of 42 books runs in the winter."]
QWEN_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "qwen3_moe", "mixtral"]
CLASSES = {"llama": "LlamaConfig", "mistral": "MistralConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config", "gemma2": "Gemma2Config",
           "gemma3": "Gemma3TextConfig", "phi3": "Phi3Config", "qwen3_moe": "Qwen3MoeConfig", "mixtral": "MixtralConfig"}


def rope(**values):
    return lambda family, config: {"rope_parameters": {"rope_theta": 10000.0, **values} if family != "gemma3" else
                                   {"full_attention": {"rope_theta": 1e6, **values}, "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}


def window(family, config):
    if family.startswith("qwen"):
        return {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 1}
    return {"sliding_window": 8}


# Each shape: what it changes in the config. Keys that begin with "_" say how the folder, the tokenizer or the recipe differ.
SHAPES = {
    "plain": {},
    "odd-heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "hidden_size": 48},
    "gqa3": {"num_attention_heads": 3, "num_key_value_heads": 1, "hidden_size": 48},
    "gqa7": {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112},
    "wide-heads": {"head_dim": 32},
    "padded-vocabulary": {"_padding": 61},
    "rope-linear": rope(rope_type="linear", factor=4.0),
    "rope-llama3": rope(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64),
    "rope-yarn": rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    "rope-longrope": rope(rope_type="longrope", factor=4.0, original_max_position_embeddings=64, short_factor=[1.0 + 0.1 * i for i in range(8)],
                          long_factor=[2.0 + 0.2 * i for i in range(8)]),
    "rope-dynamic": rope(rope_type="dynamic", factor=4.0),
    "window": window,
    "biases": {"attention_bias": True},
    "other-head": {"_flip_tie": True},
    "f32": {"_dtype": "float32"},
    "f16": {"_dtype": "float16"},
    "sharded": {"_shard": "60KB"},
    "pruned": {"_prune": [0, 2], "num_hidden_layers": 3},
    "named-template": {"_no_template": True},
    "added-tokens": {"_added": ["<tool>", "<|note|>"]},
}


def make_tokenizer(extra):
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
    byte = Tokenizer(models.BPE())
    byte.normalizer = normalizers.NFC()
    byte.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte.decoder, byte.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(vocab_size=316, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    byte.train_from_iterator(TEXTS + HELD_OUT, trainer)
    byte.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    byte.add_tokens(extra)
    return PreTrainedTokenizerFast(tokenizer_object=byte, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def settings_of(family, shape):
    change = SHAPES[shape]
    change = dict(change(family, None) if callable(change) else change)
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 256,
              "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "initializer_range": 0.2, "sliding_window": None}
    if family.startswith("gemma"):
        config |= {"sliding_window": 64, "query_pre_attn_scalar": 16}
    if family == "gemma3":
        config["num_hidden_layers"] = 6
    if family in ("qwen3_moe", "mixtral"):
        config |= {"num_experts_per_tok": 2, "num_local_experts" if family == "mixtral" else "num_experts": 4}
    if family == "qwen3_moe":
        config |= {"moe_intermediate_size": 32, "norm_topk_prob": True}
    own = {key: change.pop(key) for key in list(change) if key.startswith("_")}
    config |= change
    tied = family.startswith("gemma") or family.startswith("qwen3")
    config["tie_word_embeddings"] = tied != bool(own.get("_flip_tie"))
    return config, own


def make_model(folder, family, shape):
    """Writes the folder as transformers does; returns the model in fp32, its tokenizer and what the recipe adds."""
    import torch
    import transformers
    settings, own = settings_of(family, shape)
    tokenizer = make_tokenizer(own.get("_added", []))
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>" if own.get("_no_template") else "<|im_end|>")
    if not own.get("_no_template"):
        tokenizer.chat_template, tokenizer.eos_token = CHATML, "<|im_end|>"
    config = getattr(transformers, CLASSES[family])(**settings, vocab_size=len(tokenizer) + own.get("_padding", 0), bos_token_id=None, eos_token_id=end, pad_token_id=None)
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.2)
            if ".gate.weight" in name:
                parameter.mul_(4)   # decided routers: rounding elsewhere changes no choice
    model.generation_config.eos_token_id = end
    dtype = getattr(torch, own.get("_dtype", "bfloat16"))
    model.to(dtype).save_pretrained(folder, max_shard_size=own.get("_shard", "5GB"))
    tokenizer.save_pretrained(folder)
    return own


def write_recipe(folder, name, model, kind, own, merged, gguf):
    for side, texts in (("train", TEXTS), ("held", HELD_OUT)):
        with open(folder / f"{side}.jsonl", "w") as file:
            for text in texts:
                file.write(json.dumps({"text": text}) + "\n")
    recipe = {"model": {"path": str(model), "compute": "f32"},
              "data": {"sources": [{"path": str(folder / "train.jsonl"), "use": "train"}, {"path": str(folder / "held.jsonl"), "use": "held_out"}]},
              "adapter": {"kind": kind, "rank": 4, "alpha": 8, "targets": ["all"]},
              "train": {"steps": 2, "threads": 1, "batch": {"samples": 4}, "optimizer": {"learning_rate": 0.02}},
              "eval": {"threads": 1}, "export": {"adapter": True, "merged": merged, "gguf": gguf}, "run": {"folder": str(folder / name)}}
    if own.get("_no_template"):
        recipe["data"]["template"] = "chatml"
    if kind == "none":
        recipe["prune"] = {"keep_layers": own["_prune"]}
    (folder / f"{name}.yaml").write_text(json.dumps(recipe))   # JSON is YAML
    return folder / f"{name}.yaml", folder / name


def run_retort(options, recipe, run):
    """(ok, trained, message)"""
    done = subprocess.run([options.retort, "run", recipe], capture_output=True, text=True, timeout=120)
    stages = json.loads((run / "stages.json").read_text()) if (run / "stages.json").exists() else {}
    lines = [line for line in done.stderr.splitlines() if line.startswith("retort:") or "error" in line.lower()] or done.stderr.splitlines()[-1:]
    message = (lines[0] if lines else "no message").replace(str(run.parent) + "/", "").strip()
    message = re.sub(r"\.part-\d+", ".part-N", message)
    return done.returncode == 0, '"train"' in json.dumps(stages), f"exit {done.returncode}: {message[:240]}"


class Llama:
    """llama.cpp in a process of its own, since it aborts on what it does not like."""

    def __init__(self):
        self.process = None

    def ask(self, **job):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen([sys.executable, __file__, "--llama-worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": "llama.cpp aborted"}


def llama_worker():
    import llama_cpp
    import numpy as np
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            path = job["path"]
            if job.get("widen"):
                parameters = llama_cpp.llama_model_quantize_default_params()
                parameters.ftype, parameters.allow_requantize, parameters.nthread = 0, True, 1
                if llama_cpp.llama_model_quantize(path.encode(), job["widen"].encode(), parameters) != 0:
                    raise ValueError("llama.cpp cannot widen it to F32")
                path = job["widen"]
            llama = llama_cpp.Llama(path, n_ctx=128, n_batch=128, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1, type_k=0, type_v=0, flash_attn=False)
            rows = []
            for ids in job["ids"]:
                llama.reset()
                llama.eval(ids)
                rows.append(llama.scores[: len(ids)].copy())
            np.save(job["out"], np.concatenate(rows))
            vocabulary = llama._model.vocab
            answer = {"tokens": [llama.tokenize(text.encode(), add_bos=False, special=False) for text in job["texts"]],
                      "ends": [i for i in range(llama.n_vocab()) if llama_cpp.llama_vocab_is_eog(vocabulary, i)],
                      "template": llama.metadata.get("tokenizer.chat_template", "")}
            del llama
        except Exception as error:
            answer = {"error": str(error)[:160]}
        print(json.dumps(answer), flush=True)


def judge(family, shape, folder, options):
    """{export: [verdict, detail]} of one model."""
    import numpy as np
    import torch
    import transformers
    from peft import PeftModel
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True)
    base = folder / "base"
    cells = {}
    place = str(folder) + "/"   # is left out of what is told: it differs from run to run
    try:
        own = make_model(base, family, shape)
    except Exception as error:
        return {export: ["skipped", f"transformers makes no such model: {str(error)[:120]}"] for export in EXPORTS}

    def opened(path):
        return transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()

    def logits_of(model):
        with torch.no_grad():
            return np.concatenate([model(torch.tensor([row]), use_cache=False).logits[0].numpy() for row in ids])

    def error_of(reference, other):
        width = min(reference.shape[1], other.shape[1])
        if not np.isfinite(other[:, :width]).all():
            return float("nan")
        return float(np.abs(reference[:, :width] - other[:, :width]).max() / np.abs(reference).max())

    def kl(reference, other):
        p, q = (torch.log_softmax(torch.tensor(part), -1) for part in (reference, other[:, : reference.shape[1]]))
        return (p.exp() * (p - q)).sum(-1).mean().item()

    def loss_of(logits):
        """Nats a token over the held-out texts, each from its second token on."""
        total, first = 0.0, 0
        for row in ids:
            scores = torch.log_softmax(torch.tensor(logits[first: first + len(row) - 1]), -1)
            total -= scores[torch.arange(len(row) - 1), torch.tensor(row[1:])].sum().item()
            first += len(row)
        return total / sum(len(row) - 1 for row in ids)

    def held_out_loss(run):
        text = (run / "stages.json").read_text()
        found = re.search(r'"held_out_after":\s*([-0-9.e+]+)', text)
        return float(found.group(1)) if found else None

    def put(export, fine, detail):
        cells[export] = ["equal" if fine else "WRONG", detail.replace(place, "")]

    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    texts = HELD_OUT + ["x<tool>y <|note|> 42"]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = [tokenizer(text, add_special_tokens=False).input_ids + [tokenizer.eos_token_id] for text in HELD_OUT]
    plain_ids = [tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts]

    def reference_of(model_path, adapter):
        model = opened(model_path)
        untouched = logits_of(model)
        return untouched, logits_of(PeftModel.from_pretrained(model, adapter).eval())

    def adapter_cell(export, model_path, run):
        try:
            untouched, tuned = reference_of(model_path, run / "export/adapter")
        except Exception as error:
            put(export, False, f"PEFT does not open it: {str(error)[:160]}")
            return None
        moved = error_of(untouched, tuned)
        own_loss, loss = held_out_loss(run), loss_of(tuned)
        problems = [] if moved > 1e-3 else [f"it moves logits by {moved:.1e} only"]
        if own_loss is None or not abs(own_loss - loss) < 1e-4 * loss:
            problems.append(f"held-out loss is {loss:.6f}, retort says {own_loss}")
        put(export, not problems, "; ".join(problems) or f"held-out loss {loss:.6f} in both")
        return tuned

    def merged_cell(export, reference, run, reported, exact):
        try:
            model = opened(run / "export/merged")
            found = logits_of(model)
            other = transformers.AutoTokenizer.from_pretrained(run / "export/merged")
        except Exception as error:
            return put(export, False, f"transformers does not open it: {str(error)[:160]}")
        problems = []
        far = error_of(reference, found)
        if exact and not far < EXACT:
            problems.append(f"logits differ by {far:.1e}")
        bound = 2 * reported.get("merged", 0) + 1e-6
        if not exact and not kl(reference, found) < bound:
            problems.append(f"KL {kl(reference, found):.1e}, retort reports {reported.get('merged')}")
        if [other(text, add_special_tokens=False, split_special_tokens=True).input_ids for text in texts] != plain_ids:
            problems.append("token ids differ")
        ends = model.generation_config.eos_token_id
        if end not in (ends if isinstance(ends, list) else [ends]):
            problems.append(f"<|im_end|> does not end an answer: eos_token_id {ends}")
        if other.chat_template is None or other.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=True) != "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n":
            problems.append("it carries no chat template, or another")
        put(export, not problems, "; ".join(problems) or f"logits within {far:.1e}")

    def gguf_cell(export, kind, reference, run, reported):
        out = folder / "llama.npy"
        answer = options.llama.ask(path=str(run / f"export/model-{kind}.gguf"), ids=ids, texts=texts, out=str(out), widen="" if kind == "F32" else str(folder / "widened.gguf"))
        if "error" in answer:
            return put(export, False, f"llama.cpp: {answer['error']}")
        found, problems = np.load(out), []
        far = error_of(reference, found)
        bound = GELU_TABLE if family.startswith("gemma") else EXACT
        if kind == "F32" and not far < bound:
            problems.append(f"logits differ by {far:.1e}")
        if kind != "F32":
            apart, allowed = kl(reference, found), 2 * reported.get(kind, 0) + 1e-5
            if not apart < allowed:
                problems.append(f"KL {apart:.1e}, retort reports {reported.get(kind)}")
        if answer["tokens"] != plain_ids:
            problems.append("token ids differ")
        if end not in answer["ends"]:
            problems.append("<|im_end|> does not end an answer")
        if "<|im_start|>" not in answer["template"]:
            problems.append("it carries no chat template")
        put(export, not problems, "; ".join(problems) or f"logits within {far:.1e}")

    def reported_of(run):
        stages = json.loads((run / "stages.json").read_text())
        entries = stages.get("stages", stages)
        found = {}
        for name, stage in (entries.items() if isinstance(entries, dict) else [(s["name"], s) for s in entries]):
            if name.startswith("compare "):
                agreement = stage.get("values", {}).get("agreement")
                found[name.removeprefix("compare ")] = agreement["kl_nats"] if agreement else 0
        return found

    def attempt(name, model, kind, merged, gguf, exports):
        recipe, run = write_recipe(folder, name, model, kind, own, merged, gguf)
        fine, trained, message = run_retort(options, recipe, run)
        if fine:
            return run
        verdict = ["WRONG", f"fails after training: {message}"] if trained else ["refused", message]
        if not trained and ("internal error" in message or not message.startswith("exit 2")):
            verdict = ["WRONG", message]
        for export in exports:
            cells[export] = verdict
        return None

    if own.get("_prune"):   # `retort prune` writes the student, which then is the base
        recipe, _ = write_recipe(folder, "prune", base, "none", own, "none", [])
        student = folder / "student"
        done = subprocess.run([options.retort, "prune", recipe, student, "--type", "f32"], capture_output=True, text=True, timeout=120)
        if done.returncode:
            verdict = ["WRONG", "retort prune: " + re.sub(r"\.part-\d+", ".part-N", done.stderr.strip().replace(place, ""))[:240]]
            return {export: verdict for export in EXPORTS}
        try:
            cut, model = opened(base), opened(student)
            kept = own["_prune"]
            cut.model.layers = torch.nn.ModuleList([cut.model.layers[i] for i in kept])
            cut.config.num_hidden_layers = len(kept)
            if getattr(cut.config, "layer_types", None):
                cut.config.layer_types = [cut.config.layer_types[i] for i in kept]
            far = error_of(logits_of(cut), logits_of(model))
        except Exception as error:
            return {export: ["WRONG", f"transformers does not open the student: {str(error)[:160]}".replace(place, "")] for export in EXPORTS}
        if not far < EXACT:
            return {export: ["WRONG", f"the student's logits differ by {far:.1e} from the base without the layer"] for export in EXPORTS}
        base = student

    ggufs = ["F32", "Q8_0", "Q4_K_M"]
    whole = attempt("lora", base, "lora", "f32", ggufs, ["lora", "merged-f32"] + [f"gguf-{kind}" for kind in ggufs])
    runs = [(whole, True, True)]
    if whole is None:   # which of the exports is it?
        alone = attempt("lora-adapter", base, "lora", "none", [], ["lora"])
        merged = attempt("lora-merged", base, "lora", "f32", [], ["merged-f32"]) if alone else None
        files = attempt("lora-gguf", base, "lora", "none", ggufs, [f"gguf-{kind}" for kind in ggufs]) if alone else None
        runs = [(merged, True, False), (files, False, True)] if merged or files else [(alone, False, False)]
    from_gguf = None
    for run, has_merged, has_gguf in runs:
        if run is None:
            continue
        tuned = adapter_cell("lora", base, run)
        if tuned is None:
            for export in (["merged-f32"] if has_merged else []) + ([f"gguf-{kind}" for kind in ggufs] if has_gguf else []):
                cells[export] = ["WRONG", "no reference: " + cells["lora"][1]]
            continue
        reported = reported_of(run)
        if has_merged:
            merged_cell("merged-f32", tuned, run, reported, True)
        if has_gguf:
            for kind in ggufs:
                gguf_cell(f"gguf-{kind}", kind, tuned, run, reported)
            from_gguf = run if has_merged else None
    run = attempt("bf16", base, "lora", "bf16", [], ["merged-bf16"])
    if run:
        try:
            tuned = reference_of(base, run / "export/adapter")[1]
        except Exception as error:
            put("merged-bf16", False, f"no reference: PEFT does not open its adapter: {str(error)[:160]}")
        else:
            merged_cell("merged-bf16", tuned, run, reported_of(run), False)
    run = attempt("rslora", base, "rslora", "none", [], ["rslora"])
    if run:
        adapter_cell("rslora", base, run)
    run = attempt("dora", base, "dora", "none", [], ["dora"])
    if run:
        adapter_cell("dora", base, run)
    if from_gguf:
        run = attempt("from-gguf", from_gguf / "export/model-F32.gguf", "lora", "f32", [], ["from-gguf"])
        if run:
            tuned = adapter_cell("from-gguf", from_gguf / "export/merged", run)
            if tuned is not None:
                merged_cell("from-gguf", tuned, run, reported_of(run), True)
    return cells


def one(job):
    family, shape, folder, options = job
    options.llama = globals().setdefault("LLAMA", Llama())
    try:
        cells = judge(family, shape, pathlib.Path(folder) / f"{family}-{shape}", options)
        return family, shape, {export: [verdict, " ".join(detail.split())] for export, (verdict, detail) in cells.items()}
    except Exception as error:   # a fault of this program is a bad cell, never a silent one
        return family, shape, {export: ["WRONG", f"the matrix itself fails: {type(error).__name__}: {str(error)[:160]}"] for export in EXPORTS}


def known_faults(path):
    found = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.strip() and not line.startswith("#"):
            place, _, reason = line.partition(":")
            found[tuple(place.split())] = reason.strip()
    return found


def support_table(results):
    lines = ["| family | " + " | ".join(EXPORTS) + " |", "|---|" + "---|" * len(EXPORTS)]
    for family in dict.fromkeys(key[0] for key in results):
        row = []
        for export in EXPORTS:
            verdicts = [cells[export][0] for key, cells in results.items() if key[0] == family and export in cells]
            counts = {verdict: verdicts.count(verdict) for verdict in ("equal", "refused", "WRONG")}
            row.append(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "-")
        lines.append(f"| {family} | " + " | ".join(row) + " |")
    reasons = {}
    for (family, shape), cells in results.items():
        for export, (verdict, detail) in cells.items():
            if verdict == "refused":
                reasons.setdefault(detail, set()).add(f"{family} {shape}")
    lines += ["", "Refused before training:", ""]
    lines += [f"- {', '.join(sorted(places))}: {reason}" for reason, places in sorted(reasons.items())]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", nargs="+", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--shape", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--keep", type=pathlib.Path, help="a new folder that keeps every model and run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
    parser.add_argument("--json", type=pathlib.Path, default=ROOT / "runs/family_matrix.json")
    parser.add_argument("--readme", action="store_true", help="rewrite the table of docs/models.md")
    parser.add_argument("--known", type=pathlib.Path, default=ROOT / "tools/peers/known_faults.txt")
    options = parser.parse_args()
    if not options.retort.exists():
        sys.exit(f"{options.retort}: is not there; run tools/build release retort")
    began = time.time()
    temporary = None
    if not options.keep:
        temporary = tempfile.TemporaryDirectory()
    folder = options.keep.resolve() if options.keep else pathlib.Path(temporary.name)
    known = known_faults(options.known)
    jobs = [(family, shape, str(folder), options) for family in options.family for shape in options.shape]
    results, new = {}, []
    with ProcessPoolExecutor(options.jobs) as pool:
        for family, shape, cells in pool.map(one, jobs):
            results[family, shape] = cells
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps({f"{f} {s}": c for (f, s), c in results.items()}, indent=1) + "\n")
            for export, (verdict, detail) in cells.items():
                listed = (family, shape, export) in known
                if verdict == "WRONG":
                    print(f"{'known' if listed else 'WRONG'} {family} {shape} {export}: {detail}", flush=True)
                    if not listed:
                        new.append((family, shape, export))
    healed = [place for place in known if place[:2] in results and results[place[:2]].get(place[2], ["absent"])[0] != "WRONG"]
    print(support_table(results))
    if options.readme:
        page = ROOT / "docs/models.md"
        text = page.read_text()
        head, tail = text.split("<!-- matrix -->\n")[0], text.split("<!-- end of matrix -->")[1]
        page.write_text(f"{head}<!-- matrix -->\n{support_table(results)}<!-- end of matrix -->{tail}")
    for place in healed:
        print(f"{' '.join(place)}: is listed in {options.known.name} and no longer wrong: remove its line")
    total = [cell[0] for cells in results.values() for cell in cells.values()]
    print(f"{len(results)} models, {len(total)} cells: {total.count('equal')} equal, {total.count('refused')} refused, {total.count('WRONG')} wrong "
          f"({len(new)} of them not known), {time.time() - began:.0f} s")
    sys.exit(1 if new or healed else 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--llama-worker"]:
        llama_worker()
    else:
        main()
