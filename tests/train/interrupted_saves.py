#!/usr/bin/env python3
"""Saves of a training run under strace: killed at a system call, or with a call that fails.

Whatever happens, the run that is started again ends with the same bytes; a save that failed costs nothing but
itself.
  interrupted_saves.py TRAIN_TEST [--all]    --all: every call instead of a few of each kind (minutes)
Exit 77: strace cannot trace here.
"""
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CALLS = ("openat", "write", "fsync", "rename")


def run(binary, folder, *strace):
    environment = dict(
        os.environ,
        RETORT_TEST_FOLDER=str(folder),
        RETORT_TEST_KILL_AT="1000000",
        RETORT_TEST_EPOCHS="1",
        OMP_WAIT_POLICY="passive",
    )
    child = [binary, "--gtest_filter=ResumeChild.*", "--gtest_brief=1"]
    done = subprocess.run(
        [*strace, *child], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def result(folder):
    return tuple(
        hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("trained.safetensors", "metrics.jsonl")
    )


def fresh(root):
    folder = root / "run"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def calls_of(log, folder):
    """(call, its number among all calls of that name, its line) for the calls of the main thread that touch
    the folder."""
    lines = log.read_text(errors="replace").splitlines()
    main = lines[0].split()[0]
    counts, found = dict.fromkeys(CALLS, 0), []
    for line in lines:
        match = re.match(r"(\d+) +(\w+)\(", line)
        if not match or match[1] != main or match[2] not in counts:
            continue
        counts[match[2]] += 1
        if str(folder) in line:
            found.append((match[2], counts[match[2]], line))
    return found


def check_order(calls, folder):
    """Each file is on the disk before its folder gets its name, and the name before the next step is
    taken."""
    waiting, renamed, checkpoints = set(), None, 0
    for call, _, line in calls:
        paths = re.findall(re.escape(str(folder)) + r"[^\">]*", line)
        if call == "openat" and "O_CREAT" in line and "/.saving-" in paths[-1]:
            waiting.add(paths[-1])
        if call == "fsync":
            waiting.discard(paths[0])
            if renamed and paths[0] == f"{folder}/checkpoints":
                renamed = None
        if call == "rename" and re.search(r"/\.saving-step-\d+(\.\d+)?$", paths[0]):
            assert not waiting, f"renamed before fsync of {waiting}"
            assert not renamed, f"{renamed} was not followed by fsync of its folder"
            renamed, checkpoints = paths[1], checkpoints + 1
        elif call == "rename" and ".saving-" in paths[0]:
            assert paths[0] not in waiting, f"{paths[0]} renamed before its fsync"
    assert (
        not renamed and checkpoints >= 2
    ), f"{checkpoints} checkpoints; the last rename not followed by fsync: {renamed}"


def some(calls, every):
    """All, or at most three spread over the calls of one kind."""
    return (
        calls
        if every or len(calls) <= 3
        else [calls[i] for i in (len(calls) // 5, len(calls) // 2, len(calls) - 2)]
    )


def main():
    binary, every = sys.argv[1], "--all" in sys.argv
    strace = shutil.which("strace")
    if (
        not strace
        or subprocess.run([strace, "-f", "-qq", "-e", "trace=none", "true"], capture_output=True).returncode
        != 0
    ):
        print("skipped: strace is absent or may not trace here")
        return 77
    with tempfile.TemporaryDirectory(prefix="retort_saves_") as root:
        root = pathlib.Path(root).resolve()
        folder, log = fresh(root), root / "log"
        code, output = run(
            binary,
            folder,
            strace,
            "-f",
            "-y",
            "-qq",
            "-s",
            "0",
            "-e",
            "trace=" + ",".join(CALLS),
            "-o",
            str(log),
        )
        assert code == 0, output
        expected, calls = result(folder), calls_of(log, folder)
        check_order(calls, folder)
        failures, tried = [], 0
        for call in CALLS:
            for name, number, line in some([each for each in calls if each[0] == call], every):
                # (what is done to the call, whether the run must live on)
                saving = "/checkpoints/.saving-" in line
                tries = [("signal=KILL", False)]
                if call == "write" or (call == "openat" and "O_CREAT" in line):
                    tries.append(("error=ENOSPC", saving))
                if call == "write":
                    tries.append(("error=EDQUOT", saving))
                if call in ("fsync", "rename"):
                    tries.append(("error=EIO", saving))
                for what, survives in tries:
                    fresh(root)
                    tried += 1
                    label = f"{what} at {line.split(maxsplit=1)[1][:150]}"
                    code, output = run(
                        binary,
                        folder,
                        strace,
                        "-f",
                        "-qq",
                        "-e",
                        f"trace={call}",
                        "-e",
                        f"inject={name}:{what}:when={number}",
                        "-o",
                        "/dev/null",
                    )
                    if survives and code != 0:
                        failures.append(f"{label}: the run ended with {code}: {output[-400:]}")
                    if code != 0:
                        code, output = run(binary, folder)
                    if code != 0:
                        failures.append(f"{label}: started again, it ended with {code}: {output[-400:]}")
                    elif result(folder) != expected:
                        failures.append(f"{label}: other bytes")
                    left = [
                        str(path)
                        for path in folder.rglob("*")
                        if ".saving-" in path.name or ".part-" in path.name
                    ]
                    if left and code == 0 and what == "signal=KILL":
                        failures.append(f"{label}: left behind {left}")
        print("\n".join(failures) or f"{tried} interrupted runs ended with the same bytes")
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
