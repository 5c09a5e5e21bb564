"""Starts the packed program in folders that hold glibc alone, of Debian 11, 12 and 13."""

import os
import shutil
import subprocess

import link

SUITES = ("bullseye", "bookworm", "trixie")


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


def run_inside(root, folder, *arguments):
    """The program of `folder` in `root`, with /proc and /dev, all symbols looked up before main()."""
    target = root / "opt/retort"
    target.mkdir(exist_ok=True)
    script = (
        f'mount --bind "{folder}" "{target}" && mount -t proc proc "{root}/proc" && '
        f'mount --rbind /dev "{root}/dev" && exec chroot "{root}" /opt/retort/bin/retort "$@"'
    )
    environment = {"LD_BIND_NOW": "1", "HOME": "/tmp", "TMPDIR": "/tmp"}
    inside = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    inside += ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
    command = ["unshare", "--mount", *inside, "sh", "-c", script, "retort", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


# A whole run in half a minute, of a package that brings the demo.
SHORT_DEMO = (
    "demo run.folder=/tmp/demo train.steps=2 data.held_out.count=8 export.compare_samples=2 gate=[] "
    "eval.tasks.0.max_tokens=2"
).split()


def try_everywhere(parts, folder):
    """(suite, problem) for each Debian that the program does not run on."""
    if os.geteuid() != 0:
        raise SystemExit("tools/package: try needs root, for chroot; the check of symbols does not")
    failed = []
    # A file that is missing is named, with exit 2: so far as that the program comes.
    trials = [(["--version"], 0), (["schema"], 0), (["plan", "/none.json"], 2)]
    if (folder / "share/retort/demo").exists():
        trials.append((SHORT_DEMO, 0))
    for suite in SUITES:
        root = make_root(parts, suite)
        before = len(failed)
        for arguments, expected in trials:
            done = run_inside(root, folder, *arguments)
            if done.returncode != expected:
                said = (done.stderr or done.stdout).strip()[-1000:]
                failed.append((suite, f"retort {arguments[0]}: exit {done.returncode}: {said}"))
        shutil.rmtree(root / "tmp/demo", ignore_errors=True)
        names = ", ".join(arguments[0] for arguments, _ in trials)
        print(f"{suite}: {names}: {'FAILED' if len(failed) > before else 'run'}", flush=True)
    return failed
