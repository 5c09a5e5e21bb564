#!/usr/bin/env python3
"""Golden logits after transformers' own logits processors, in the order generate() applies them.

Run: third_party/peers/bin/python tools/golden/sampling.py   (writes tests/golden/sampling.json)
"""
import json
import pathlib

import torch
import transformers
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SEED = 11
CASES = [
    {"repetition_penalty": 1.3},
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 1.5, "top_p": 0.35},
    {"temperature": 1.0, "top_p": 0.0},
    {"temperature": 1.0, "min_p": 0.2},
    {"temperature": 0.6, "top_k": 12, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2},
    {"temperature": 2.0, "top_k": 20, "top_p": 0.95, "repetition_penalty": 0.8},
]


def processors(case):
    steps = LogitsProcessorList()
    if case.get("repetition_penalty", 1) != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(case["repetition_penalty"]))
    if "temperature" in case and case["temperature"] != 1:
        steps.append(TemperatureLogitsWarper(case["temperature"]))
    if "top_k" in case:
        steps.append(TopKLogitsWarper(case["top_k"]))
    if "top_p" in case:
        steps.append(TopPLogitsWarper(case["top_p"]))
    if "min_p" in case:
        steps.append(MinPLogitsWarper(case["min_p"]))
    return steps


def main():
    generator = torch.Generator().manual_seed(SEED)
    logits = (3 * torch.randn(40, generator=generator)).float()
    logits[7] = logits[3]  # a tie
    seen = [3, 5, 5, 9, 30]
    cases = []
    for case in CASES:
        out = processors(case)(torch.tensor([seen]), logits.clone()[None])[0]
        kept = torch.isfinite(out)
        probabilities = out.softmax(-1)
        cases.append(
            {
                "spec": case,
                "kept": kept.nonzero().flatten().tolist(),
                "logits": [round(x, 6) for x in out[kept].tolist()],
                "probabilities": [round(x, 7) for x in probabilities[kept].tolist()],
            }
        )
    golden = {
        "made_by": "tools/golden/sampling.py",
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "seed": SEED,
        "input": logits.tolist(),
        "seen": seen,
        "cases": cases,
    }
    path = pathlib.Path(__file__).parents[2] / "tests/golden/sampling.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
