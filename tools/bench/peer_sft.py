#!/usr/bin/env python3
"""TRL's SFTTrainer on a recipe's samples (what recipe_samples prints): LoRA, packing, loss on the completion
alone, one pass over the samples. Prints one JSON line. A row holds about as many tokens as a step of the
recipe does; the order is TRL's own.
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
parser.add_argument("samples", type=pathlib.Path)
parser.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
parser.add_argument("--packing", choices=["bfd", "none"], default="bfd", help="none: padded batches")
options = parser.parse_args()

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

import peer_model

head, *rest = [json.loads(line) for line in options.samples.open()]
steps = [line for line in rest if "step" in line]
samples = [sample for line in steps for sample in line["samples"]]
rows = {
    "input_ids": [sample["tokens"] for sample in samples],
    "completion_mask": [[int(w > 0) for w in sample["weights"]] for sample in samples],
}
held_out = [line for line in rest if "prompt" in line]
per_step = len(samples) // len(steps)
tokens = sum(map(len, rows["input_ids"]))
row_tokens = max(max(map(len, rows["input_ids"])), round(tokens / len(steps)))
packing = options.packing != "none"


class Watch(TrainerCallback):
    def __init__(self):
        self.ends = []

    def on_step_end(self, *arguments, **named):
        self.ends.append(time.time())


watch = Watch()
with tempfile.TemporaryDirectory() as folder:
    config = SFTConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        fp16=False,
        packing=packing,
        packing_strategy="bfd",
        max_length=row_tokens,
        completion_only_loss=True,
        per_device_train_batch_size=1 if packing else per_step,
        gradient_checkpointing=False,
        num_train_epochs=1,
        learning_rate=max(line["rate"] for line in steps),
        lr_scheduler_type="cosine",
        warmup_steps=sum(a["rate"] < b["rate"] for a, b in zip(steps, steps[1:])) + 1,
        max_grad_norm=head["clip_norm"],
        weight_decay=head["weight_decay"],
        report_to=[],
        logging_steps=1,
        save_strategy="no",
        dataloader_num_workers=0,
        seed=head["seed"],
    )
    trainer = SFTTrainer(
        model=peer_model.load(options.dtype),
        args=config,
        train_dataset=Dataset.from_dict(rows),
        processing_class=AutoTokenizer.from_pretrained(peer_model.folder()),
        callbacks=[watch],
        peft_config=LoraConfig(
            r=head["rank"], lora_alpha=head["alpha"], target_modules=peer_model.LINEARS, task_type="CAUSAL_LM"
        ),
    )
    begin = time.time()
    trainer.train()
    seconds = time.time() - begin
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
model = trainer.model.eval()
total = count = 0
with torch.no_grad():
    for line in held_out:
        ids = torch.tensor([line["tokens"]])
        wanted = torch.tensor(line["weights"])[1:] > 0
        logits = model(input_ids=ids).logits[0, :-1][wanted].float()
        total += torch.nn.functional.cross_entropy(logits, ids[0, 1:][wanted], reduction="sum").item()
        count += int(wanted.sum())
step_seconds = [b - a for a, b in zip(watch.ends, watch.ends[1:])]
# without start-up and the slow first step
steady = statistics.median(step_seconds) if step_seconds else seconds
print(
    json.dumps(
        {
            "dtype": options.dtype,
            "packing": options.packing,
            "malloc": "tuned" if os.environ.get("MALLOC_TRIM_THRESHOLD_") else "plain",
            "steps": len(losses),
            "losses": losses,
            "samples_per_step": len(samples) / len(losses),
            "samples_per_s": len(samples) / len(losses) / steady,
            "whole_samples_per_s": len(samples) / seconds,
            "tokens_per_s": tokens / len(losses) / steady,
            "held_out_after": total / count,
            "seconds": seconds,
            "row_tokens": row_tokens,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "first_step_s": (watch.ends[0] if watch.ends else time.time()) - started,
        }
    )
)
