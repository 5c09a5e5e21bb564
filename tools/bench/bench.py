"""What the benches share: processes that print one JSON line, rounds in which every setting runs once,
medians, the result file."""
import json
import mmap
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER_PYTHON = pathlib.Path(os.environ.get("RETORT_PEERS", ROOT / "third_party/peers")) / "bin/python"
# glibc told to keep freed memory: what a careful user of the peer would set.
TUNED_MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_MMAP_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "1073741824",
}


def output(command, extra_environment=None) -> str:
    """Runs a process and returns what it prints; its failure is ours."""
    command = [str(part) for part in command]
    # Benches of ours have no main() that asks for this, as retort has (src/cli/main.cpp); peers choose for
    # themselves.
    ours = {} if command[0] == str(PEER_PYTHON) else {"OMP_WAIT_POLICY": "passive"}
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=dict(os.environ, HF_HUB_OFFLINE="1", **ours, **(extra_environment or {})),
        capture_output=True,
        text=True,
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)}: exit {result.returncode}\n{result.stderr[-2000:]}")
    return result.stdout


def json_line(command, extra_environment=None) -> dict:
    """Runs a process and reads the last line it prints."""
    return json.loads(output(command, extra_environment).splitlines()[-1])


def peer(script, arguments, tuned=False) -> dict:
    if not PEER_PYTHON.exists():
        sys.exit(
            f"{PEER_PYTHON} is absent: run tools/peers/setup, or set RETORT_PEERS to an environment that has "
            "the peers"
        )
    return json_line(
        [PEER_PYTHON, ROOT / "tools/bench" / script, *arguments], TUNED_MALLOC if tuned else None
    )


def interleave(settings, rounds, show) -> dict:
    """settings: name -> function that measures once. Every round runs each once, so that a busy minute hits
    all alike."""
    runs = {name: [] for name in settings}
    for round_number in range(rounds):
        for name, measure in settings.items():
            runs[name].append(measure())
            print(
                f"round {round_number + 1} of {rounds}: {name}: {show(runs[name][-1])}",
                file=sys.stderr,
                flush=True,
            )
    return runs


def medians(runs, keys) -> dict:
    return {
        name: {key: statistics.median(run[key] for run in found) for key in keys}
        for name, found in runs.items()
    }


def forget_pages(folder):
    """Pages that another group's process brought into memory would not be read again by ours."""
    for path in pathlib.Path(ROOT, folder).glob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def read_past_cache(files, block=8 << 20, enough=2 << 30) -> int:
    """Bytes that were read with O_DIRECT, of these files from their beginnings until it is enough."""
    done = 0
    memory = mmap.mmap(-1, block)  # aligned, as such reads have to be
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        at = 0
        while done < enough and (got := os.preadv(descriptor, [memory], at)):
            at += got
            done += got
            if got < block:
                break
        os.close(descriptor)
    return done


def disk_speed(folder) -> float:
    """Bytes a second that one thread reads past the page cache."""
    files = sorted(pathlib.Path(ROOT, folder).glob("*.safetensors"))
    began = time.monotonic()
    done = read_past_cache(files)
    return done / (time.monotonic() - began)


class ControlGroup:
    """Of memory, version 1 or 2; nothing where it cannot be made."""

    def __init__(self, gibibytes, name="bench"):
        self.folder = None
        if not gibibytes:
            return
        for root, limit in (
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ):
            folder = pathlib.Path(root, f"retort-{name}-{os.getpid()}")
            try:
                folder.mkdir()
                (folder / limit).write_text(str(int(gibibytes * 2**30)))
                self.folder = folder
                return
            except OSError:
                if folder.exists():
                    folder.rmdir()
        print(
            "no control group could be made: the page cache may keep the file, and nothing is read from disk"
        )

    def run(self, command, model=None):
        """`model`: a folder whose files are read from disk, whoever read or wrote them before."""
        if model:
            forget_pages(model)
        enter = f"echo $$ > {self.folder}/cgroup.procs && " if self.folder else ""
        return json_line(["bash", "-c", enter + 'exec "$@"', "bench", *[str(word) for word in command]])

    def close(self):
        if self.folder:
            self.folder.rmdir()


def machine() -> dict:
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    value = lambda key: next((line.split(":")[1].strip() for line in lines if line.startswith(key)), "?")
    flags = set(value("flags").split())
    return {
        "cpu": value("model name"),
        "family": value("cpu family"),
        "model": value("model"),
        "cores": len(os.sched_getaffinity(0)),
        "features": sorted(
            flags & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "avx_vnni"}
        ),
        "load_at_end": os.getloadavg()[0],
    }


def write(name, result) -> None:
    out = ROOT / "build/bench" / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    print(f"written: {out.relative_to(ROOT)}")
