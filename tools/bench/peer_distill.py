#!/usr/bin/env python3
"""One setting of the peer: a student learns from a live teacher with TRL. Every weight of the student is
trained with AdamW on ROWS texts of LENGTH tokens, forward KL at temperature 1, the texts given (nothing is
generated: the peer's fastest way).

    gkd           trl.experimental.gkd.GKDTrainer, lmbda 0 (off-policy), beta 0
    distillation  trl.DistillationTrainer with its chunked loss, beta 0; it knows generated completions only,
                  so the texts stand in for them

Prints one JSON line: tokens/s (median step after the first), peak resident memory, seconds from process start
to the end of the first step.
"""
import argparse
import json
import os
import pathlib
import resource
import statistics
import tempfile
import time

started = time.time()
parser = argparse.ArgumentParser()
parser.add_argument("student", type=pathlib.Path)
parser.add_argument("text", type=pathlib.Path)
parser.add_argument("--trainer", choices=["gkd", "distillation"], default="gkd")
parser.add_argument("--dtype", choices=["bf16", "fp32"], default="bf16")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--length", type=int, default=512)
parser.add_argument("--steps", type=int, default=3)
options = parser.parse_args()
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

import peer_model

torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(peer_model.folder())
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
ids = tokenizer(options.text.read_text())["input_ids"]
texts = [ids[i * options.length : (i + 1) * options.length] for i in range(options.rows)]
assert all(len(text) == options.length for text in texts), f"{options.text} is too short"


class Watch(TrainerCallback):
    def __init__(self):
        self.ends = []

    def on_step_end(self, *arguments, **named):
        self.ends.append(time.time())


def collate(rows):
    tokens = torch.tensor([texts[row["index"]] for row in rows])
    labels = tokens.clone()
    labels[:, 0] = -100
    return {
        "input_ids": tokens,
        "attention_mask": torch.ones_like(tokens),
        "labels": labels,
        "prompts": tokens[:, :1],
        "prompt_attention_mask": torch.ones_like(tokens[:, :1]),
    }


def load(folder):
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[options.dtype]
    )


watch = Watch()
with tempfile.TemporaryDirectory() as folder:
    common = dict(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        fp16=False,
        beta=0.0,
        temperature=1.0,
        per_device_train_batch_size=options.rows,
        gradient_checkpointing=False,
        max_steps=options.steps + 1,
        learning_rate=1e-4,
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        dataloader_num_workers=0,
        seed=0,
    )
    models = dict(
        model=load(options.student),
        teacher_model=load(peer_model.folder()),
        processing_class=tokenizer,
        callbacks=[watch],
    )
    indices = [i % options.rows for i in range(options.rows * (options.steps + 1))]
    if options.trainer == "gkd":
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        config = GKDConfig(lmbda=0.0, max_length=options.length, **common)
        trainer = GKDTrainer(
            args=config,
            train_dataset=Dataset.from_dict(
                {"index": indices, "messages": [[{"role": "user", "content": "-"}]] * len(indices)}
            ),
            data_collator=collate,
            **models,
        )
    else:
        from trl import DistillationConfig, DistillationTrainer

        class Given(DistillationTrainer):
            def _generate_single_turn(self, prompt_ids, *arguments, **named):
                return [text[len(prompt) :] for text, prompt in zip(texts, prompt_ids)]

        config = DistillationConfig(max_completion_length=options.length, **common)
        trainer = Given(
            args=config, train_dataset=Dataset.from_dict({"prompt": ["the"] * len(indices)}), **models
        )
    trainer.train()
seconds = [b - a for a, b in zip(watch.ends, watch.ends[1:])]
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
print(
    json.dumps(
        {
            "trainer": options.trainer,
            "dtype": options.dtype,
            "malloc": "tuned" if os.environ.get("MALLOC_TRIM_THRESHOLD_") else "plain",
            "tokens_per_s": options.rows * options.length / statistics.median(seconds),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "first_step_s": watch.ends[0] - started,
            "loss": losses[-1],
        }
    )
)
