#!/usr/bin/env python3
"""LoRA step on SmolLM2-135M: retort against transformers + PEFT, interleaved in one run.

    tools/peers/setup && tools/build release bench_lora_step && third_party/peers/bin/python tools/bench/lora_step.py

Each round runs every setting once in a process of its own; the table gives medians over the rounds. Writes
build/bench/lora_step.json. Settings of the peer: bf16 and fp32, each with glibc's malloc as shipped and tuned.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--steps", type=int, default=3)
parser.add_argument("--weights", nargs="*", default=["bf16", "keep"], help="how retort holds the base: bf16, keep (Q4_1 as in the file), nf4 ...")
parser.add_argument("--peers", nargs="*", default=["bf16", "bf16-tuned", "fp32", "fp32-tuned"])
parser.add_argument("--binary", default="build/release/tools/bench/bench_lora_step")
options = parser.parse_args()
TUNED = {"MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_MMAP_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "1073741824"}


def peer(setting):
    dtype, _, tuned = setting.partition("-")
    environment = dict(os.environ, **(TUNED if tuned else {}))
    command = [sys.executable, "tools/bench/peer_lora_step.py", "--dtype", dtype, "--steps", str(options.steps)]
    return json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def ours(weights):
    command = [options.binary, "--weights", weights, "--steps", str(options.steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


settings = [("retort " + w, lambda w=w: ours(w)) for w in options.weights] + [("PEFT " + p, lambda p=p: peer(p)) for p in options.peers]
results = {name: [] for name, _ in settings}
for round_number in range(options.rounds):
    for name, measure in settings:
        results[name].append(measure())
        print(f"round {round_number + 1}: {name}: {results[name][-1]['tokens_per_s']:.0f} tokens/s", file=sys.stderr)

table = []
for name, runs in results.items():
    table.append({"setting": name, **{key: statistics.median(run[key] for run in runs) for key in ("tokens_per_s", "peak_mb", "first_step_s")}})
peers = [row for row in table if row["setting"].startswith("PEFT")]
best = max(peers, key=lambda row: row["tokens_per_s"]) if peers else None
print(f"{'setting':<18} {'tokens/s':>9} {'peak MB':>8} {'first step s':>13} {'x best peer':>12}")
for row in table:
    ratio = row["tokens_per_s"] / best["tokens_per_s"] if best else float("nan")
    row["ratio_to_best_peer"] = ratio
    print(f"{row['setting']:<18} {row['tokens_per_s']:>9.0f} {row['peak_mb']:>8.0f} {row['first_step_s']:>13.1f} {ratio:>12.2f}")
cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
out = pathlib.Path("build/bench/lora_step.json")
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"cpu": cpu, "rounds": options.rounds, "table": table, "runs": results}, indent=1) + "\n")
print(f"written: {out}")
