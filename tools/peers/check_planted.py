#!/usr/bin/env python3
"""The planted faults of tests/planted given to others too: how many of them TRL's SFTTrainer, Axolotl's
validator and LLaMA-Factory's parser stop before the first step. Prints the table of docs/robustness.md.

  third_party/peers/bin/python tools/peers/check_planted.py [--axolotl FOLDER] [--llama-factory FOLDER]
      [--retort PROGRAM] [--jobs 2]

TRL is given the same data and model files and its own form of the recipe; it has stopped a fault when
anything is thrown before its first step begins. Of Axolotl `validate_config` alone is asked, which reads the
recipe, is told of a machine (here one H100) and opens no other file; of LLaMA-Factory `get_train_args`, which
reads the recipe too. A FOLDER is one into which `pip install --no-deps --target FOLDER axolotl pillow addict`
or `... llamafactory omegaconf` put it. A dash: the program has nothing in which the fault could be planted.
Exits 1 where retort stops fewer than 38 faults, or a good recipe.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import sys
import tempfile
import traceback
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/planted"))
import faults
import planted_model
import planted_test


class FirstStep(Exception):
    """The first step has begun: nothing was stopped."""


def trl_trial(asked, place):
    import datasets
    import peft
    import torch
    import transformers
    import trl

    if "yaml" in asked:
        (place.folder / "trl.yaml").write_text(asked["yaml"])
        (config,) = trl.TrlParser((trl.SFTConfig,)).parse_args_and_config(
            ["--config", str(place.folder / "trl.yaml"), "--use_cpu", "true", "--report_to", "none"]
        )
        raise FirstStep(config)  # what follows is as in the base

    class Begins(transformers.TrainerCallback):
        def on_step_begin(self, args, state, control, **_):
            raise FirstStep()

    usual = dict(
        output_dir=str(place.folder / "out"), max_steps=4, per_device_train_batch_size=4, max_length=256
    )
    usual |= dict(report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, save_strategy="no")
    config = trl.SFTConfig(**(usual | asked.get("args", {})))
    lora = asked.get("lora", {})
    adapter = None
    if lora is not None and "adapter" not in asked:
        adapter = peft.LoraConfig(**(dict(r=4, lora_alpha=8, task_type="CAUSAL_LM") | lora))
    file = place.folder / asked.get("data", "samples.jsonl")
    kind = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}[
        file.suffix
    ]
    data = datasets.load_dataset(
        kind,
        data_files=str(file),
        split="train",
        cache_dir=str(place.folder / "cache"),
        **asked.get("load", {}),
    )
    if kind == "csv" and not asked.get("as_it_is"):
        data = data.rename_columns({"question": "prompt", "answer": "completion"})
    settings = dict(dtype=torch.float32)
    if asked.get("four_bits"):
        settings["quantization_config"] = transformers.BitsAndBytesConfig(load_in_4bit=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(str(place.model), **settings)
    if "adapter" in asked:
        model = peft.PeftModel.from_pretrained(model, str(place.folder / asked["adapter"]), is_trainable=True)
    trainer = trl.SFTTrainer(
        model=model,
        args=config,
        train_dataset=data,
        eval_dataset=data if asked.get("evaluate") else None,
        peft_config=adapter,
        processing_class=transformers.AutoTokenizer.from_pretrained(str(place.model)),
        callbacks=[Begins()],
    )
    trainer.train()


AXOLOTL = {
    "base_model": "model",
    "datasets": [{"path": "samples.jsonl", "type": "alpaca"}],
    "val_set_size": 0.1,
    "adapter": "lora",
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_target_modules": ["q_proj", "v_proj"],
    "sequence_len": 256,
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_epochs": 1,
    "learning_rate": 2e-4,
    "optimizer": "adamw_torch",
    "lr_scheduler": "cosine",
    "output_dir": "out",
}


def axolotl_trial(asked, place):
    import copy

    import yaml
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault

    config = copy.deepcopy(AXOLOTL)
    if "yaml" in asked:
        config |= yaml.safe_load(asked["yaml"])  # as Axolotl reads its file
    else:
        config |= asked
    machine = {"bf16": True, "fp8": True, "tf32": True, "n_gpu": 1, "compute_capability": "sm_90"}
    validate_config(
        DictDefault({key: value for key, value in config.items() if value is not None}),
        capabilities=machine,
        env_capabilities={"torch_version": "2.9.0"},
    )
    raise FirstStep()


FACTORY = {
    "model_name_or_path": "model",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_target": "all",
    "dataset": "samples",
    "template": "default",
    "cutoff_len": 256,
    "output_dir": "out",
    "per_device_train_batch_size": 4,
    "learning_rate": 2e-4,
    "num_train_epochs": 1,
    "val_size": 0.1,
    "report_to": "none",
}


def factory_trial(asked, place):
    from llamafactory.hparams import get_train_args, read_args

    file = place.folder / "factory.yaml"
    text = "".join(
        f"{key}: {json.dumps(value)}\n" for key, value in (FACTORY | asked).items() if key != "yaml"
    )
    for line in asked.get("yaml", "").splitlines():
        text = re.sub(rf"^{line.split(':')[0]}:.*\n", "", text, count=1, flags=re.M)
    file.write_text(text + asked.get("yaml", ""))
    before = sys.argv
    try:
        sys.argv = ["train", str(file)]
        get_train_args(read_args())
    except SystemExit as error:  # the way in which its parser ends
        raise ValueError("the parser exits") from error
    finally:
        sys.argv = before
    raise FirstStep()


def stopped(trial, asked, place):
    """The error's first line, or empty where the first step would have come."""
    try:
        trial(asked, place)
    except FirstStep:
        return ""
    except Exception as error:
        if isinstance(error, ImportError):
            traceback.print_exc()
        first, *_ = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {first[:100]}"
    return ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
    parser.add_argument("--axolotl", type=pathlib.Path)
    parser.add_argument("--llama-factory", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    others = [("TRL", "trl", trl_trial)]
    if options.axolotl:
        sys.path.insert(0, str(options.axolotl))
        others.append(("Axolotl's validator", "axolotl", axolotl_trial))
    if options.llama_factory:
        os.environ["DISABLE_VERSION_CHECK"] = "1"  # of packages that nothing here uses
        sys.path.insert(0, str(options.llama_factory))
        others.append(("LLaMA-Factory's parser", "factory", factory_trial))
    names = ["retort check", *(name for name, _, _ in others)]
    rows = []
    counts = {name: {"Fault": [0, 0], "Good": [0, 0]} for name in names}
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        model = planted_model.write_model(root / "model")
        trials = faults.FAULTS + faults.GOOD
        program = options.retort.resolve()
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            of_retort = list(
                pool.map(
                    lambda at: planted_test.run(program, trials[at], root / f"retort-{at}", model),
                    range(len(trials)),
                )
            )
        for at, (trial, result) in enumerate(zip(trials, of_retort)):
            kind, cells = type(trial).__name__, []
            ours = result.returncode != 0
            if kind == "Fault":
                ours = not planted_test.stopped(trial, result)
            verdicts = [("retort check", ours, "")]
            for name, form, how in others:
                asked = getattr(trial, form)
                if asked is None:
                    verdicts.append((name, None, ""))
                    continue
                place = faults.Place(root / f"{form}-{at}", model)
                trial.plant(place)
                why = stopped(how, asked, place)
                verdicts.append((name, bool(why), why))
            for name, verdict, why in verdicts:
                cells.append("-" if verdict is None else "stopped" if verdict else "passes")
                if verdict is not None:
                    counts[name][kind][0] += verdict
                    counts[name][kind][1] += 1
                if why:
                    print(f"{trial.name}: {name}: {why}", file=sys.stderr, flush=True)
            if kind == "Fault":
                report = (
                    trial.report.removeprefix(faults.GITHUB).replace("/issues/", "#").replace("/pull/", "#")
                )
                label = f"[{report}]({trial.report})"
                rows.append(f"| {trial.name}: {trial.what} | {label} | {' | '.join(cells)} |")
    print(f"| planted fault | reported | {' | '.join(names)} |\n|{'---|' * (2 + len(names))}")
    print("\n".join(rows))
    for kind, words in (("Fault", "stopped before the first step"), ("Good", "good recipes refused")):
        cells = [f"{counts[name][kind][0]} of {counts[name][kind][1]}" for name in names]
        print(f"| **{words}** | | {' | '.join(cells)} |")
    ours = counts["retort check"]
    return 1 if ours["Fault"][0] < planted_test.LEAST or ours["Good"][0] else 0


if __name__ == "__main__":
    sys.exit(main())
