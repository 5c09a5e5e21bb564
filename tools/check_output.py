#!/usr/bin/env python3
"""Runs the commands that README.md and docs/ show with their output, and compares it.

    tools/check_output.py [--build FOLDER] [--print] [PAGE ...]      default: build/release, every page

What is run stands in fenced blocks that begin with ```console. A line that begins with "$ " is a command, and
what follows it, up to the next one, its output on both streams. In the output

- a line of three dots stands for any lines, three dots inside of a line for anything in it;
- `console measured` instead of `console`: durations, and numbers with a decimal point (scores, speeds), are
  those of the machine that the page was written on. There has to be one, of any size, and columns may be
  wider or narrower. Whole numbers and words are compared in both kinds.

Empty lines at the end of an output do not count. The commands of a page run one after the other in a
folder of their own, which holds recipes, data and checkpoints as a fresh clone with its inputs does. --print
shows what each command really printed. Exits 1 and shows the first line that differs of every block.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
DECIMAL = r"-?\d+\.\d+(?:e[+-]?\d+)?"
DURATION = r"\d+(?:\.\d+)? (?:ms|s|min|h|days)\b(?: \d+ (?:s|min|h)\b)?"
SECONDS = 1200  # of one command


class Command:
    def __init__(self, page, number, line, measured):
        self.page, self.number, self.line, self.measured = page, number, line, measured
        self.expected = []


def commands(page):
    """Of the console blocks of a page, in their order."""
    found, kind = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"```(.*)", line)
        if fence and kind is None:
            kind = fence.group(1).split() or ["plain"]
        elif fence:
            kind = None
        elif kind and kind[0] == "console":
            if kind[1:] not in ([], ["measured"]):
                sys.exit(f"{page}:{number}: a console block is 'console' or 'console measured'")
            if line.startswith("$ "):
                found.append(Command(page, number, line[2:], "measured" in kind))
            elif found and found[-1].page == page:
                found[-1].expected.append(line)
            else:
                sys.exit(f"{page}:{number}: output without a command; a command begins with '$ '")
    return found


def looser(word):
    """What a word of a measured block stands for."""
    if word.isspace():
        return r"\s+"
    if re.fullmatch(DURATION, word):
        return DURATION
    return NUMBER if re.fullmatch(DECIMAL, word) else re.escape(word)


def pattern(line, measured):
    """What a printed line has to be."""
    parts = []
    for part in re.split(r"(\.\.\.)", line.rstrip()):
        if part == "...":
            parts.append(".*")
        elif measured:
            parts += map(looser, re.split(rf"((?<![\w.]){DURATION}|{DECIMAL}|\s+)", part))
        else:
            parts.append(re.escape(part))
    return re.compile("".join(parts))


def difference(command, printed):
    """None where the output is as the page says, else a sentence."""
    printed = printed[: max((i + 1 for i, line in enumerate(printed) if line.strip()), default=0)]
    at, anywhere, seen = 0, False, None
    for line in command.expected:
        if line.strip() == "...":
            anywhere = True
            continue
        wanted = pattern(line, command.measured)
        places = range(at, len(printed)) if anywhere else range(at, min(at + 1, len(printed)))
        place = next((i for i in places if wanted.fullmatch(printed[i].rstrip())), None)
        if place is None:
            seen = "the end" if at >= len(printed) else f"'{printed[at]}'"
            return f"expected '{line}', found {'nothing of the kind behind ' if anywhere else ''}{seen}"
        at, anywhere = place + 1, False
    if not anywhere and at < len(printed):
        return f"expected the end, found '{printed[at]}'"
    return None


def workplace(folder, build):
    """As a fresh clone with its inputs; what is large is linked, what may be written is copied."""
    for name in ("recipes", "configs", "tools"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(ROOT / "data", folder / "data", ignore=shutil.ignore_patterns("cache"))
    (folder / "checkpoints").mkdir()
    for file in (ROOT / "checkpoints").iterdir():
        (folder / "checkpoints" / file.name).symlink_to(file.resolve())
    (folder / "third_party").symlink_to((ROOT / "third_party").resolve())
    (folder / "build").mkdir()
    (folder / "build/release").symlink_to(build)


def run(command, folder, build):
    environment = {**os.environ, "PATH": f"{build}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    try:
        result = subprocess.run(
            ["bash", "-c", command.line],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [f"(no end within {SECONDS} s)"]
    lines = re.split(r"[\r\n]", result.stdout.decode("utf-8", "replace").removesuffix("\n"))
    return lines if lines != [""] else []


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pages", nargs="*", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    build = given.build.resolve()
    if not (build / "retort").exists():
        sys.exit(f"check_output: {build}/retort is missing; run tools/build first")
    pages = [page.resolve() for page in given.pages]
    pages = pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    checked = failed = 0
    for page in pages:
        found = commands(page)
        if not found:
            continue
        with tempfile.TemporaryDirectory(prefix="retort-pages-") as name:
            folder = pathlib.Path(name)
            workplace(folder, build)
            for command in found:
                printed = run(command, folder, build)
                wrong = difference(command, printed)
                checked, failed = checked + 1, failed + (wrong is not None)
                at = f"{page.relative_to(ROOT)}:{command.number}: {command.line}"
                if wrong:
                    print(f"{at}\n  {wrong}")
                if wrong or given.print:
                    print("\n".join(["  it printed:", *(f"  | {line}" for line in printed)]), flush=True)
    if checked == 0:
        print("no page shows a command with its output in a block that begins with ```console")
        failed = 1
    print(f"{checked} commands with their output, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
