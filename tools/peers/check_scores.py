#!/usr/bin/env python3
"""The scores of retort beside those of lm-evaluation-harness on transformers: SmolLM2-135M in fp32, the same
questions, the same prompts, question by question.

    tools/peers/setup && tools/build release retort
    third_party/peers/bin/python tools/peers/check_scores.py [--questions 60]

Five tasks: multiple choice by letters with five examples (as MMLU), by whole texts (as ARC; also
normalised by length), by letters as a chat; sums with two examples (numbers found as GSM8K's
flexible-extract does); answers in a chat, with exact match, BLEU and chrF. Exits 1 when a verdict or an
answer differs and the two scores of the options were further apart than fp32 explains.
"""
import argparse
import csv
import json
import logging
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/bench"))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--questions", type=int, default=60)
parser.add_argument("--retort", type=pathlib.Path, default=ROOT / "build/release/retort")
options = parser.parse_args()

import lm_eval
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer

import icd10_questions
import peer_model

logging.disable(logging.WARNING)
LETTERS, SHOTS, TOKENS = "ABCD", 5, 24
MEAN = {"aggregation": "mean", "higher_is_better": True}


def write_questions(folder):
    icd10_questions.write(folder / "questions.csv", options.questions, 7)
    icd10_questions.write(folder / "examples.csv", SHOTS, 8)
    with open(folder / "questions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(folder / "answers.jsonl", "w") as file:
        for row in rows:
            file.write(json.dumps({"prompt": row["question"], "completion": row[row["answer"]]}) + "\n")
    draw = random.Random(7)
    for name, count in (("sums.jsonl", options.questions), ("sum-examples.jsonl", 2)):
        with open(folder / name, "w") as file:
            for _ in range(count):
                a, b = draw.randrange(2, 60), draw.randrange(2, 60)
                problem = draw.choice(
                    [
                        f"A box holds {a} eggs and a basket holds {b} eggs. How many eggs are there?",
                        f"What is {a} + {b}?",
                        f"Ann reads {a} pages on Monday and {b} pages on Tuesday. "
                        "How many pages does she read?",
                    ]
                )
                file.write(
                    json.dumps(
                        {"problem": problem, "solution": f"{a} + {b} = {a + b}. The answer is {a + b}."}
                    )
                    + "\n"
                )


RECIPE = """
model: {{path: {model}, compute: f32}}
data: {{sources: [{{path: {folder}/answers.jsonl}}], held_out: {{count: 1}}}}
adapter: {{kind: none}}
eval:
  tasks:
    - {{kind: multiple_choice, name: letters, path: {folder}/questions.csv, ask: plain,
       few_shot: {shots}, examples: {folder}/examples.csv}}
    - {{kind: multiple_choice, name: texts, path: {folder}/questions.csv, ask: plain, score: text}}
    - {{kind: multiple_choice, name: chat, path: {folder}/questions.csv, ask: chat}}
    - {{kind: numeric, name: sums, path: {folder}/sums.jsonl, ask: plain,
       few_shot: 2, examples: {folder}/sum-examples.jsonl, max_tokens: {tokens}}}
    - {{kind: completion, name: answers, path: {folder}/answers.jsonl, max_tokens: {tokens}}}
"""


def ours(folder):
    """Task -> its result, as `retort eval --json` writes it."""
    recipe = folder / "scores.yaml"
    model = peer_model.folder()
    recipe.write_text(RECIPE.format(model=model, folder=folder, shots=SHOTS, tokens=TOKENS))
    command = [options.retort, "eval", recipe, "--model", model, "--json", folder / "ours.json"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (tasks,) = json.loads((folder / "ours.json").read_text()).values()
    return {task["task"]: task for task in tasks}


def choice(folder, **more):
    asked = "{{question.strip()}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\nAnswer:"
    return {
        "dataset_path": "csv",
        "dataset_kwargs": {
            "data_files": {"test": str(folder / "questions.csv"), "dev": str(folder / "examples.csv")}
        },
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": asked,
        "doc_to_choice": list(LETTERS),
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", **MEAN}],
    } | more


def written(folder, file, examples=None, **more):
    files = {"test": str(folder / file)} | ({"dev": str(folder / examples)} if examples else {})
    return {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "output_type": "generate_until",
    } | more


def theirs(folder):
    shots = {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}}
    until = {"do_sample": False, "max_gen_toks": TOKENS}
    plain = {
        "letters": choice(
            folder,
            **shots,
            num_fewshot=SHOTS,
            description="The following are multiple choice questions (with answers).\n\n",
        ),
        "texts": choice(
            folder,
            doc_to_text="Question: {{question.strip()}}\nAnswer:",
            doc_to_choice="{{[A, B, C, D]}}",
            doc_to_target="{{['A', 'B', 'C', 'D'].index(answer)}}",
            metric_list=[{"metric": "acc", **MEAN}, {"metric": "acc_norm", **MEAN}],
        ),
        "sums": written(
            folder,
            "sums.jsonl",
            "sum-examples.jsonl",
            **shots,
            num_fewshot=2,
            doc_to_text="Problem: {{problem}}\nSolution:",
            doc_to_target="{{solution}}",
            generation_kwargs=until | {"until": ["\nProblem:"]},
            filter_list=[
                {
                    "name": "flexible-extract",
                    "filter": [
                        {
                            "function": "regex",
                            "group_select": -1,
                            "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)",
                        },
                        {"function": "take_first"},
                    ],
                }
            ],
            metric_list=[
                {
                    "metric": "exact_match",
                    **MEAN,
                    "regexes_to_ignore": [",", "\\$", "(?s).*The answer is ", "\\.$"],
                }
            ],
        ),
    }
    chat = {
        "chat": choice(folder),
        "answers": written(
            folder,
            "answers.jsonl",
            doc_to_text="{{prompt}}",
            doc_to_target="{{completion}}",
            generation_kwargs=until | {"until": ["<|im_end|>"]},
            metric_list=[
                {"metric": "exact_match", **MEAN},
                {"metric": "bleu", "aggregation": "bleu", "higher_is_better": True},
                {"metric": "chrf", "aggregation": "chrf", "higher_is_better": True},
            ],
        ),
    }
    harness = HFLM(
        pretrained=peer_model.load("fp32"),
        tokenizer=AutoTokenizer.from_pretrained(peer_model.folder()),
        batch_size=1,
    )
    results, samples = {}, {}
    for tasks, templated in ((plain, False), (chat, True)):
        found = lm_eval.simple_evaluate(
            model=harness,
            tasks=[{"task": name} | task for name, task in tasks.items()],
            apply_chat_template=templated,
            bootstrap_iters=0,
            log_samples=True,
        )
        results |= found["results"]
        for name in tasks:
            samples[name] = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return results, samples


def is_near(sample):
    """Whether the two best options are so near that fp32 may order them either way."""
    best = sorted((float(response[0]) for response in sample["filtered_resps"]), reverse=True)
    return best[0] - best[1] < 1e-3


def main():
    with tempfile.TemporaryDirectory(prefix="retort-scores-") as name:
        folder = pathlib.Path(name)
        write_questions(folder)
        mine = ours(folder)
        results, samples = theirs(folder)
    wrong = 0
    # task, our metric, theirs
    rows = [
        ("letters", "accuracy", "acc,none"),
        ("texts", "accuracy", "acc,none"),
        ("texts", "accuracy_norm", "acc_norm,none"),
        ("chat", "accuracy", "acc,none"),
        ("sums", "accuracy", "exact_match,flexible-extract"),
        ("answers", "exact_match", "exact_match,none"),
        ("answers", "bleu", "bleu,none"),
        ("answers", "chrf", "chrf,none"),
    ]
    print(f"lm_eval {lm_eval.__version__}; {options.questions} questions a task")
    print(f"{'task':<8} {'metric':<14} {'retort':>9} {'lm_eval':>9}")
    for task, metric, key in rows:
        a, b = dict(mine[task]["metrics"])[metric], results[task][key]
        print(f"{task:<8} {metric:<14} {a:>9.4f} {b:>9.4f}")
    print(f"{'task':<8} {'equal answer by answer':>24}")
    for task, theirs_of in samples.items():
        equal, near = 0, 0
        for a, b in zip(mine[task]["samples"], theirs_of, strict=True):
            if task == "answers":
                same = a["got"].strip() == b["filtered_resps"][0].strip()
            elif task == "sums":
                same = a["score"] == b["exact_match"]
            else:
                same = a["score"] == b["acc"]
            equal += same
            if same:
                continue
            near_one = task not in ("sums", "answers") and is_near(b)
            near += near_one
            print(f"  {task} {a['id'].rsplit(':', 1)[-1]}: {a['got']!r} ({a['score']}), "
                  f"lm_eval {b['filtered_resps']!r}")  # fmt: skip
        print(
            f"{task:<8} {equal:>15} of {len(theirs_of):>4}"
            + (f", {near} nearer than 1e-3 nats" if near else "")
        )
        wrong += len(theirs_of) - equal - near
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
