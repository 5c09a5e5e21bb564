#!/usr/bin/env python3
"""The peer of tools/bench/multiple_choice: lm-evaluation-harness on transformers, the same questions and
examples as one of its own multiple-choice tasks, worded as its MMLU; one JSON line. Loading the model is not
counted."""
import argparse
import json
import logging
import os
import time

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
parser = argparse.ArgumentParser()
parser.add_argument("--questions", required=True)
parser.add_argument("--examples", required=True)
parser.add_argument("--few-shot", type=int, default=5)
parser.add_argument("--limit", type=int, default=0)
parser.add_argument("--threads", type=int, default=0)
parser.add_argument("--dtype", choices=["bf16", "fp32"], default="fp32")
parser.add_argument("--batch", type=int, default=8)
options = parser.parse_args()

import torch

if options.threads:
    torch.set_num_threads(options.threads)
import lm_eval
from lm_eval.models.huggingface import HFLM

import peer_model
from transformers import AutoTokenizer

logging.disable(logging.WARNING)
model = peer_model.load(options.dtype)
task = {
    "task": "questions",
    "dataset_path": "csv",
    "dataset_kwargs": {
        "data_files": {"test": os.path.abspath(options.questions), "dev": os.path.abspath(options.examples)}
    },
    "test_split": "test",
    "fewshot_split": "dev",
    "fewshot_config": {"sampler": "first_n"},
    "output_type": "multiple_choice",
    "num_fewshot": options.few_shot,
    "description": "The following are multiple choice questions (with answers).\n\n",
    "doc_to_text": "{{question.strip()}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\nAnswer:",
    "doc_to_choice": ["A", "B", "C", "D"],
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
harness = HFLM(
    pretrained=model, tokenizer=AutoTokenizer.from_pretrained(peer_model.folder()), batch_size=options.batch
)
start, cpu_start = time.perf_counter(), time.process_time()
result = lm_eval.simple_evaluate(
    model=harness, tasks=[task], limit=options.limit or None, bootstrap_iters=0, log_samples=True
)
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
samples = sorted(result["samples"]["questions"], key=lambda sample: sample["doc_id"])
scores = [float(response[0]) for sample in samples for response in sample["filtered_resps"]]
letters = "".join("ABCD"[max(range(4), key=lambda i: sample["filtered_resps"][i][0])] for sample in samples)
print(
    json.dumps(
        {
            "questions_per_s": len(samples) / seconds,
            "questions_per_cpu_s": len(samples) / cpu,
            "seconds": seconds,
            "accuracy": result["results"]["questions"]["acc,none"],
            "answers": letters,
            "scores": scores,
            "lm_eval": lm_eval.__version__,
        }
    )
)
