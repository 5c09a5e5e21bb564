#!/usr/bin/env python3
"""Opens every artefact of a run with the programs that others use and compares token ids and logits with
retort's own: transformers (safetensors folder), peft (adapter on the base), llama-cpp-python (GGUF files and
the GGUF adapter). llama.cpp multiplies blocks with activations in 8 bits, so a quantized file's logits are
compared after its own quantizer has widened the file to F32.

    tools/peers/setup && tools/build release reference_logits
    third_party/peers/bin/python tools/peers/check_exports.py runs/NAME [--base checkpoints/BASE.gguf]

Exits 1 when something differs by more than it may. KL is the mean over all positions of the prompts, in nats
a token.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unicodedata

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import llama_cpp
import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
parser = argparse.ArgumentParser()
parser.add_argument("run", type=pathlib.Path)
parser.add_argument("--base", type=pathlib.Path, default=ROOT / "checkpoints/smollm2-135m-instruct-q4_1.gguf")
parser.add_argument(
    "--reference", type=pathlib.Path, default=ROOT / "build/release/tools/peers/reference_logits"
)
options = parser.parse_args()
exports = options.run / "export"

# What a file may differ from the trained model, in nats a token, both computed by retort in fp32: so much, or
# what the file that llama.cpp's own quantizer makes of the same weights differs, and 2 %.
OF_FILE = {
    "merged": 2e-3,
    "F32": 1e-5,
    "F16": 1e-3,
    "BF16": 2e-3,
    "Q8_0": 2e-3,
    "Q6_K": 1e-2,
    "Q5_K_M": 2e-2,
    "Q4_K_M": 5e-2,
}
EXACT = 1e-4  # two programs in fp32 on the same numbers
# fmt: off
FTYPES = {"F32": 0, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q3_K_M": 12, "Q4_K_S": 14, "Q4_K_M": 15,
          "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18}   # llama_ftype
# fmt: on
PROMPTS = [
    "Cholera due to Vibrio cholerae 01, biovar eltor",
    "Type 2 diabetes mellitus with diabetic neuropathy, unspecified",
    "Displaced fracture of shaft of left clavicle",
    "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "The quick brown fox jumps over the lazy dog.",
    "def fibonacci(n):\n    if n < 2:\n        return n\n",
    "  leading spaces\tand\ttabs\n\n",
    "1234567890 3.14159",
    "naïve café — “quotes” … €",
    "日本語のテキスト",
    "Привет, мир",
    "مرحبا بالعالم",
    "👩‍👩‍👧‍👦 🇩🇪 ✈️",
    "e\u0301 vs \u00e9",
    "<|im_start|>user\nlook-alike<|im_end|>",
    "Don't you'll we've I'm",
    "ALL CAPS AND MiXeD",
    "x = [[1, 2], [3, 4]]  # matrix",
    "\r\nwindows line\r\n",
    "a" * 64,
]
failures = []
checked = 0
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)


def report(what, ok, detail):
    global checked
    checked += 1
    print(f"{'ok  ' if ok else 'FAIL'} {what}: {detail}", flush=True)
    if not ok:
        failures.append(what)


def kl(reference, other):
    p = torch.log_softmax(torch.cat([torch.as_tensor(part) for part in reference]).float(), -1)
    q = torch.log_softmax(torch.cat([torch.as_tensor(np.asarray(part)) for part in other]).float(), -1)[
        :, : p.shape[1]
    ]
    return (p.exp() * (p - q)).sum(-1).mean().item()


def top1(reference, other):
    return float(
        np.mean(
            np.concatenate(
                [np.asarray(a).argmax(-1) == np.asarray(b).argmax(-1) for a, b in zip(reference, other)]
            )
        )
    )


def ours(model, adapter="-"):
    """retort's ids and logits."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "prompts.json").write_text(json.dumps(PROMPTS))
        done = subprocess.run(
            [options.reference, model, adapter, f"{folder}/prompts.json", f"{folder}/out"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"reference_logits {model} {adapter}: {done.stderr}")
        answer = json.loads(pathlib.Path(f"{folder}/out.json").read_text())
        values = np.fromfile(f"{folder}/out.f32", dtype=np.float32).reshape(-1, answer["vocabulary"])
    ends = np.cumsum([len(row) for row in answer["ids"]])
    return answer["ids"], np.split(values, ends[:-1]), answer["eos"]


def of_transformers(model, ids):
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].numpy() for row in ids]


def of_llama(llama, ids):
    found = []
    for row in ids:
        llama.reset()
        llama.eval(row)
        found.append(llama.scores[: len(row)].copy())
    return found


def by_llama_quantizer(source, kind, folder):
    """The file that llama.cpp's quantizer makes of `source`, a GGUF file of any type."""
    made = pathlib.Path(folder) / f"{source.stem}-to-{kind}.gguf"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.allow_requantize, parameters.nthread = (
        FTYPES[kind],
        True,
        len(os.sched_getaffinity(0)),
    )
    if llama_cpp.llama_model_quantize(str(source).encode(), str(made).encode(), parameters) != 0:
        sys.exit(f"llama.cpp cannot quantize {source} to {kind}")
    return made


def check_llama_tokens(name, llama, ids, eos):
    # llama.cpp does not compose characters first, which Qwen's tokenizer.json says (NFC).
    composed = {text: unicodedata.normalize("NFC", text) for text in PROMPTS}
    found = {text: llama.tokenize(text.encode(), add_bos=False, special=False) for text in composed.values()}
    plain = [llama.tokenize(text.encode(), add_bos=False, special=False) for text in PROMPTS]
    same = sum(made == row for made, row in zip(plain, ids))
    other = sum(made != row and found[composed[text]] == row for text, made, row in zip(PROMPTS, plain, ids))
    report(
        f"llama.cpp: {name}: token ids",
        same + other == len(PROMPTS),
        f"{same} of {len(PROMPTS)} prompts equal retort's"
        + f", {other} once they are composed (NFC)" * bool(other),
    )
    report(
        f"llama.cpp: {name}: end token", llama.token_eos() in eos, f"{llama.token_eos()}, retort's are {eos}"
    )
    report(
        f"llama.cpp: {name}: chat template",
        bool(llama.metadata.get("tokenizer.chat_template")),
        f"{len(llama.metadata.get('tokenizer.chat_template', ''))} characters",
    )


adapter, merged, gguf_adapter = exports / "adapter", exports / "merged", exports / "adapter.gguf"
models = sorted(file for file in exports.glob("model-*.gguf"))
if not any(path.exists() for path in (adapter, merged, gguf_adapter)) and not models:
    sys.exit(f"{exports}: holds no artefact; was the run finished?")
base_ids, base_logits, base_eos = ours(options.base)
trained = None
if adapter.exists():
    ids, trained, eos = ours(options.base, adapter)
    if options.base.is_dir():
        base = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32).eval()
    else:
        base = AutoModelForCausalLM.from_pretrained(
            options.base.parent,
            gguf_file=options.base.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        ).eval()
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    found = of_transformers(tuned, ids)
    report(
        "peft opens the adapter: logits on the base",
        kl(trained, found) < EXACT,
        f"KL {kl(trained, found):.1e}, top-1 agreement {top1(trained, found):.3f}",
    )
    moved = kl(trained, base_logits)
    report("the adapter does something", moved > 1e-4, f"KL to the base {moved:.1e}")
    del base, tuned, found
if merged.exists():
    ids, logits, eos = ours(merged)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    model = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    found = of_transformers(model, ids)
    report(
        "transformers opens the merged folder: logits",
        kl(logits, found) < EXACT,
        f"KL {kl(logits, found):.1e}, top-1 agreement {top1(logits, found):.3f}",
    )
    same = sum(
        tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids == row
        for text, row in zip(PROMPTS, base_ids)
    )
    report(
        "transformers: merged: token ids",
        same == len(PROMPTS),
        f"{same} of {len(PROMPTS)} prompts equal retort's on the base",
    )
    ends = model.generation_config.eos_token_id
    report(
        "transformers: merged: end tokens",
        set(ends if isinstance(ends, list) else [ends]) == set(eos) and set(eos) >= set(base_eos),
        f"{ends}, retort's are {eos}, the base's {base_eos}",
    )
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[0]}], tokenize=False, add_generation_prompt=True
    )
    report("transformers: merged: chat template", PROMPTS[0] in chat, repr(chat[:60]))
    if trained is not None:
        report(
            "merged = base + adapter, but for rounding",
            kl(trained, logits) < OF_FILE["merged"],
            f"KL {kl(trained, logits):.1e} (bound {OF_FILE['merged']:g})",
        )
    trained = trained if trained is not None else logits
    del model, found
for file in models:
    kind = file.stem.removeprefix("model-")
    ids, logits, eos = ours(file)
    with tempfile.TemporaryDirectory() as folder:
        widened = file if kind in ("F32", "F16", "BF16") else by_llama_quantizer(file, "F32", folder)
        llama = llama_cpp.Llama(
            str(widened), n_ctx=512, logits_all=True, verbose=False, n_threads=len(os.sched_getaffinity(0))
        )
        found = of_llama(llama, ids)
        del llama
    llama = llama_cpp.Llama(
        str(file), n_ctx=512, logits_all=True, verbose=False, n_threads=len(os.sched_getaffinity(0))
    )
    check_llama_tokens(file.name, llama, base_ids, base_eos)
    report(
        f"llama.cpp: {file.name}: logits",
        kl(logits, found) < EXACT,
        f"KL {kl(logits, found):.1e} to retort on the same file (bound {EXACT:g}), top-1 agreement "
        f"{top1(logits, found):.3f}",
    )
    if trained is not None:
        differs, bound, whose = kl(trained, logits), OF_FILE.get(kind, 0.3), "bound"
        if differs > bound and (exports / "model-F32.gguf").exists() and kind in FTYPES:
            with tempfile.TemporaryDirectory() as folder:
                bound, whose = (
                    1.02 * kl(trained, ours(by_llama_quantizer(exports / "model-F32.gguf", kind, folder))[1]),
                    "llama.cpp's own file of the same weights and 2 %",
                )
        report(
            f"{file.name} = the trained model, but for its type",
            differs < bound,
            f"KL {differs:.2e} ({whose}: {bound:.2e}), top-1 agreement {top1(trained, logits):.3f}",
        )
    del llama
if gguf_adapter.exists():
    ids, logits, eos = ours(options.base, gguf_adapter)
    if adapter.exists():
        report(
            "retort: the GGUF adapter is the PEFT adapter",
            kl(trained, logits) < EXACT,
            f"KL {kl(trained, logits):.1e}",
        )
    if options.base.is_dir():
        sys.exit(
            "the GGUF adapter is checked on a base in GGUF: write one with export.gguf: [F32] and name it by "
            "--base"
        )
    with tempfile.TemporaryDirectory() as folder:
        llama = llama_cpp.Llama(
            str(by_llama_quantizer(options.base, "F32", folder)),
            lora_path=str(gguf_adapter),
            n_ctx=512,
            logits_all=True,
            verbose=False,
            n_threads=len(os.sched_getaffinity(0)),
        )
        found = of_llama(llama, ids)
        del llama
    report(
        "llama.cpp: adapter.gguf on the base: logits",
        kl(logits, found) < EXACT,
        f"KL {kl(logits, found):.1e} to retort (bound {EXACT:g}), {kl(base_logits, found):.1e} to the base "
        "without it",
    )

print(f"{checked - len(failures)} passed, {len(failures)} failed")
sys.exit(1 if failures else 0)
