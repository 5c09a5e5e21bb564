#!/usr/bin/env python3
"""planted_test.py RETORT [NAME ...]: `retort check` stops at least 38 of the 40 faults of faults.py, each
with an error line that says where, and lets all 30 good recipes pass; docs/robustness.md says the same of
each fault. Exits 77 where nothing reads Parquet."""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import faults
import planted_model

LEAST = 38
DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs/robustness.md"


def check(program, folder, keys, text):
    (folder / "recipe.yaml").write_text(text(faults.recipe_text(keys)))
    return subprocess.run(
        [program, "check", "--no-step", "--samples", "0", "recipe.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def stopped(fault, result):
    """Why a fault was not stopped as it should be; empty: it was."""
    if result.returncode == 0:
        return "passes"
    if result.returncode != 2:
        return f"exit {result.returncode}: {result.stderr.strip()}"
    return "" if fault.says in result.stderr else f"stopped for another reason: {result.stderr.strip()}"


def documented():
    """Name of a fault -> what docs/robustness.md says that retort does with it."""
    rows = re.findall(r"^\| ([^:|]+): [^|]*\| \[[^|]*\| (\w+) \|", DOCUMENT.read_text(), flags=re.M)
    return dict(rows)


def run(program, trial, folder, model):
    place = faults.Place(folder, model)
    trial.plant(place)
    return check(program, place.folder, trial.recipe, trial.text)


def main():
    program, names = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:]
    if not (program.parent / "retort-tables").exists():
        print("there is no retort-tables: nothing would read the Parquet file")
        return 77
    chosen = [each for each in faults.FAULTS + faults.GOOD if not names or each.name in names]
    if not names and (len(faults.FAULTS), len(faults.GOOD)) != (40, 30):
        print(f"there are {len(faults.FAULTS)} faults and {len(faults.GOOD)} good recipes, not 40 and 30")
        return 1
    missed, alarms, untrue, said_of = 0, 0, 0, documented()
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        model = planted_model.write_model(root / "model")
        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("PLANTED_JOBS", "2"))) as pool:
            results = pool.map(lambda at: run(program, chosen[at], root / str(at), model), range(len(chosen)))
            for trial, result in zip(chosen, results):
                is_fault = isinstance(trial, faults.Fault)
                why = (
                    stopped(trial, result) if is_fault else result.stderr.strip() if result.returncode else ""
                )
                missed += bool(why) and is_fault
                alarms += bool(why) and not is_fault
                if is_fault and said_of.get(trial.name) != ("passes" if why else "stopped"):
                    untrue += 1
                    print(f"docs/robustness.md says '{said_of.get(trial.name)}' of '{trial.name}'")
                said = why or (result.stderr.strip() if names and is_fault else "")
                print(f"{'FAIL' if why else 'ok  '} {trial.name}{': ' + said if said else ''}", flush=True)
    count = sum(isinstance(trial, faults.Fault) for trial in chosen)
    print(f"{count - missed} of {count} faults stopped before the first step; {alarms} false alarms")
    return 1 if alarms or untrue or count - missed < min(LEAST, count) else 0


if __name__ == "__main__":
    sys.exit(main())
