"""Starts the packed programs in folders that hold glibc alone, of Debian 11, 12 and 13."""

import os
import pathlib
import shutil
import subprocess

import link

SUITES = ("bullseye", "bookworm", "trixie")
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden"
KEYS = GOLDEN / "sign"


def make_root(parts, suite):
    """glibc of one Debian and nothing else, not even a shell."""
    root = parts / f"root-{suite}"
    if (root / ".complete").exists():
        return root
    link.unpack_debs(link.download(parts, suite), ["libc6"], root)
    for name in ("lib", "lib64"):  # since Debian 13 another package brings these links
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "tmp", "opt"):
        (root / name).mkdir(exist_ok=True)
    (root / ".complete").touch()
    return root


def run_inside(root, folder, program, *arguments):
    """A program of `folder` in `root`, with /proc and /dev, all symbols looked up before main()."""
    target = root / "opt/retort"
    target.mkdir(exist_ok=True)
    script = (
        f'mount --bind "{folder}" "{target}" && mount -t proc proc "{root}/proc" && '
        f'mount --rbind /dev "{root}/dev" && exec chroot "{root}" /opt/retort/bin/{program} "$@"'
    )
    environment = {"LD_BIND_NOW": "1", "HOME": "/tmp", "TMPDIR": "/tmp"}
    inside = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    inside += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    command = ["unshare", "--mount", *inside, "sh", "-c", script, program, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


# A whole run in half a minute, of a package that brings the demo.
SHORT_DEMO = (
    "demo run.folder=/tmp/demo train.steps=2 data.held_out.count=8 export.compare_samples=2 gate=[] "
    "eval.tasks.0.max_tokens=2"
).split()
# Program, its arguments, its exit. A file that is missing is named, with exit 2: so far as that it comes.
TRIALS = [
    ("retort", ["--version"], 0),
    ("retort", ["schema"], 0),
    ("retort", ["plan", "/none.json"], 2),
    ("retort-sign", ["--version"], 0),
    ("retort-tables", ["/tmp/questions.parquet"], 0),
]
# What the package brings, signed with a key and verified with its public half.
SIGNED = ["/opt/retort/share", "--signature", "/tmp/signed/share.sig", "--key"]
TRIALS += [
    ("retort-sign", ["sign", *SIGNED, "/tmp/signed/private.pem"], 0),
    ("retort-sign", ["verify", *SIGNED, "/tmp/signed/public.pem"], 0),
]


def clear(root):
    for name in ("demo", "signed"):
        shutil.rmtree(root / "tmp" / name, ignore_errors=True)


def try_everywhere(parts, folder):
    """(suite, problem) for each Debian that a program does not run on."""
    if os.geteuid() != 0:
        raise SystemExit("tools/package: try needs root, for chroot; the check of symbols does not")
    failed = []
    trials = list(TRIALS)
    if (folder / "share/retort/demo").exists():
        trials.append(("retort", SHORT_DEMO, 0))
    for suite in SUITES:
        root = make_root(parts, suite)
        before = len(failed)
        clear(root)  # a demo that is there already would find everything done
        shutil.copytree(KEYS, root / "tmp/signed", ignore=shutil.ignore_patterns("v1*"))
        shutil.copy(GOLDEN / "tables/questions.parquet", root / "tmp")
        for program, arguments, expected in trials:
            done = run_inside(root, folder, program, *arguments)
            if done.returncode != expected:
                said = (done.stderr or done.stdout).strip()[-1000:]
                failed.append((suite, f"{program} {arguments[0]}: exit {done.returncode}: {said}"))
        clear(root)
        names = ", ".join(f"{program} {arguments[0]}" for program, arguments, _ in trials)
        print(f"{suite}: {names}: {'FAILED' if len(failed) > before else 'run'}", flush=True)
    return failed
