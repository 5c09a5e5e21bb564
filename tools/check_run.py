#!/usr/bin/env python3
"""Has `retort prove` watch a recipe's run, and checks what that leaves by other means:

    tools/check_run.py RECIPE [key=value ...] [--keep FOLDER]

- `retort prove` agrees: no network, no other program, every file recorded, no sample's text left;
- each entry of the ledger holds the hash of the one before, by Python's hashlib;
- `retort verify` agrees, and names a file that was changed, removed or added;
- with --canary, a private run of its own over samples that hold a canary, those to train on and those held
  out: the text is in no log, error, report, answer file or export, unless report.samples asks for it.
The recipe's files, the base model and the program must be there (tools/setup, tools/build).
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = ROOT / os.environ.get("RETORT_BUILD", "build/release") / "retort"
CANARY = "CANARY-5f1c9b-QUETZAL"
CANARY_RECIPE = """
about: a canary among the samples
private: true
model: {{path: checkpoints/smollm2-135m-instruct-q4_1.gguf, weights: keep, compute: f32}}
data:
  sources:
    - {{path: "{folder}/train.jsonl", use: train}}
    - {{path: "{folder}/held_out.jsonl", use: held_out}}
  cache: "{folder}/cache/tokens.h5"
adapter: {{kind: lora, rank: 2, targets: [q_proj]}}
train: {{steps: 2, batch: {{samples: 4}}}}
eval:
  tasks:
    - kind: completion
      max_tokens: 8
      scored_by: {{command: [python3, "{folder}/score.py"], scores: [length]}}
    - {{kind: perplexity}}
export: {{gguf: [Q8_0]}}
run: {{folder: "{folder}/run"}}
"""
SCORES = """
import json, sys
for line in sys.stdin:
    print(json.dumps({"length": len(json.loads(line)["wanted"])}), flush=True)
"""
failures = []


def require(holds, what, detail=""):
    print(f"{'ok  ' if holds else 'FAIL'} {what}{': ' + str(detail) if detail else ''}", flush=True)
    if not holds:
        failures.append(what)


def check(recipe, overrides, folder):
    command = [PROGRAM, "prove", recipe, *overrides, f"run.folder={folder}"]
    result = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    print(result.stdout[-6000:])
    require(
        result.returncode == 0,
        "retort prove agrees",
        "" if result.returncode == 0 else f"exit {result.returncode}: {result.stderr[-500:]}",
    )
    if not (folder / "manifest.json").exists():
        return result
    manifest = json.loads((folder / "manifest.json").read_text())
    named = {entry["path"] for entry in manifest["written"]}

    before = "0" * 64
    chained = True
    lines = (folder / "ledger.jsonl").read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], 1):
        entry = json.loads(line)
        chained = chained and entry["n"] == number and entry["before"] == before
        before = hashlib.sha256(line).hexdigest()
    require(
        chained and not lines[-1] and manifest["ledger"] == {"entries": len(lines) - 1, "sha256": before},
        "each entry of the ledger holds the hash of the one before, and the manifest that of the last",
        f"{len(lines) - 1} entries",
    )

    verify = lambda: subprocess.run([PROGRAM, "verify", folder], cwd=ROOT, capture_output=True, text=True)
    require(verify().returncode == 0, "retort verify agrees")
    victim = folder / sorted(named)[len(named) // 2]
    content = victim.read_bytes()
    changed = bytearray(content)
    changed[len(changed) // 2] ^= 1
    for what, damage in (
        ("changed", lambda: victim.write_bytes(changed)),
        ("removed", victim.unlink),
        ("added", lambda: (folder / "added").write_text("x")),
    ):
        damage()
        answer = verify()
        name = "added" if what == "added" else victim.name
        require(
            answer.returncode == 2 and name in answer.stdout,
            f"retort verify names a file that was {what}",
            name,
        )
        victim.write_bytes(content)
    (folder / "added").unlink()
    return result


def check_canary():
    with tempfile.TemporaryDirectory(prefix="retort_canary_") as name:
        folder = pathlib.Path(name).resolve()
        (folder / "cache").mkdir()
        sample = (
            lambda prompt, answer: json.dumps(
                {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}
            )
            + "\n"
        )
        (folder / "train.jsonl").write_text(
            "".join(sample(f"{CANARY} question {i}", f"{CANARY} answer {i}") for i in range(8))
        )
        # Answers that repeat are classes, whose names are texts too.
        (folder / "held_out.jsonl").write_text(
            "".join(sample(f"{CANARY} asked {i}", f"{CANARY} {('yes', 'no')[i % 2]}") for i in range(8))
        )
        (folder / "score.py").write_text(SCORES)
        (folder / "recipe.yaml").write_text(CANARY_RECIPE.format(folder=folder))
        result = check(folder / "recipe.yaml", [], folder / "run")
        texts = result.stdout + result.stderr
        for arguments in (
            ["check", folder / "recipe.yaml", "--no-step"],
            ["eval", folder / "recipe.yaml", f"run.folder={folder}/run"],
            ["samples", folder / "run"],
            [
                "run",
                folder / "recipe.yaml",
                "data.sample_tokens=8",
                f"run.folder={folder}/broken",
                "data.cache=",
            ],
            ["run", folder / "recipe.yaml", f"run.folder={folder}/again"],
        ):
            again = subprocess.run(
                [str(part) for part in [PROGRAM, *arguments]], cwd=ROOT, capture_output=True, text=True
            )
            texts += again.stdout + again.stderr
        (folder / "broken.jsonl").write_text(
            (folder / "train.jsonl").read_text() + f'{{"messages": "{CANARY}"}}\n{{"x": {CANARY}'
        )
        broken = subprocess.run(
            [
                PROGRAM,
                "run",
                folder / "recipe.yaml",
                f"data.sources.0.path={folder}/broken.jsonl",
                "data.cache=",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        require(
            broken.returncode == 2 and "broken.jsonl:9" in broken.stderr,
            "a broken sample is named by its line",
            broken.stderr.strip()[:160],
        )
        texts += broken.stdout + broken.stderr
        # A program that scores answers repeats what it was told when it fails.
        (folder / "score.py").write_text(f"import sys\nsys.exit({CANARY!r})\n")
        failing = subprocess.run(
            [PROGRAM, "run", folder / "recipe.yaml", f"run.folder={folder}/failing"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        require(
            failing.returncode == 2 and "not shown: the recipe is private" in failing.stderr,
            "what a program says of answers is not repeated",
            failing.stderr.strip()[-200:],
        )
        texts += failing.stdout + failing.stderr
        require(CANARY not in texts, "no sample's text in what retort prints")
        holders = [
            str(path.relative_to(folder))
            for run in ("run", "broken", "again", "failing")
            for path in (folder / run).rglob("*")
            if path.is_file() and CANARY.encode() in path.read_bytes()
        ]
        require(not holders, "no sample's text in a log, checkpoint, export or report", holders)
        (folder / "score.py").write_text(SCORES)
        asked = subprocess.run(
            [PROGRAM, "run", folder / "recipe.yaml", f"run.folder={folder}/asked", "report.samples=2"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        shown = (
            (folder / "asked/report.html").read_text().count(f"{CANARY} asked") if not asked.returncode else 0
        )
        require(shown == 2, "report.samples: 2 shows two", asked.stderr[-200:] if asked.returncode else shown)
        open_run = subprocess.run(
            [PROGRAM, "run", folder / "recipe.yaml", f"run.folder={folder}/asked"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        require(
            open_run.returncode == 2 and "name a new folder" in open_run.stderr,
            "a folder whose files hold texts is not taken for a private run",
            open_run.stderr.strip()[:200],
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--keep", type=pathlib.Path, help="where the run stays afterwards")
    parser.add_argument("--canary", action="store_true")
    options = parser.parse_args()
    for program in ("strace", "unshare"):
        if shutil.which(program) is None:
            sys.exit(f"check_run: {program} is missing; tools/setup installs it")
    if options.canary:
        check_canary()
    if options.recipe:
        with tempfile.TemporaryDirectory(prefix="retort_run_") as name:
            folder = (options.keep or pathlib.Path(name) / "run").resolve()
            folder.parent.mkdir(parents=True, exist_ok=True)
            check(options.recipe, options.overrides, folder)
    print(f"{len(failures)} failed" if failures else "all holds")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
