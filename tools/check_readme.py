#!/usr/bin/env python3
"""Every command line that README.md, CONTRIBUTING.md and the pages of docs/ show can be run:
check_readme.py [BUILD_FOLDER] (default build/release). What they print is compared by check_output.py.

A command line starts with retort, build/release/retort, tools/..., third_party/peers/bin/python or ctest,
inside a block of code (indented or fenced; a leading "$ " is fine). For retort: the command exists, its
options exist, recipe files exist and each key=value names a key. For scripts: the file is there and may be
executed. Exits 1 and names the lines that do not hold.
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = ROOT / (sys.argv[1] if len(sys.argv) > 1 else "build/release") / "retort"
STARTS = (
    "retort",
    "build/release/retort",
    "tools/",
    "third_party/peers/bin/python",
    "ctest",
    "ninja",
    "cmake",
)


def blocks(text):
    """(line number, line) of the lines inside blocks of code. Of a block with lines behind a "$ " only these;
    blocks of the kind console are run by check_output.py, and left out."""
    kind, kept = None, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.lstrip().startswith("```")
        if fence and kind is None:
            kind, kept = line.strip()[3:].split()[:1], []
        elif fence:
            typed = [place for place in kept if place[1].startswith("$ ")]
            yield from [] if kind == ["console"] else typed or kept
            kind = None
        elif kind is not None:
            kept.append((number, line.strip()))
        elif line.startswith("    "):
            yield number, line.strip()


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True)


def help_of(command):
    result = run(command, "--help")
    return result.stdout if result.returncode == 0 else None


def problems_of_retort(words):
    if not words or words[0].startswith("-"):
        return [] if not words or run(*words).returncode == 0 else [f"retort {words[0]} is refused"]
    text = help_of(words[0])
    if text is None:
        return [f"retort has no command '{words[0]}'"]
    found = []
    for word in words[1:]:
        if re.fullmatch(r"--[\w-]+(=.*)?", word):
            option = word.split("=")[0]
            if not re.search(rf"(^|[\s,]){re.escape(option)}\b", text):
                found.append(f"retort {words[0]} has no option {option}")
        elif re.fullmatch(r"[a-z_]+(\.\w+)*=.*", word):
            key = re.sub(r"\.\d+(?=\.)", "[]", word.split("=")[0])
            if run("explain", key).returncode != 0 and run("explain", word.split("=")[0]).returncode != 0:
                found.append(f"'{key}' is no key of a recipe")
        elif word.startswith(("recipes/", "configs/", "docs/")) and not (ROOT / word).exists():
            found.append(f"{word} is missing")
    return found


def problems_of(words):
    program, *rest = words
    if program in ("retort", "build/release/retort"):
        return problems_of_retort(rest)
    if program.startswith("third_party/peers/bin/python"):
        program, *rest = rest or [""]
        return [] if (ROOT / program).is_file() else [f"{program} is missing"]
    if program.startswith("tools/"):
        path = ROOT / program
        found = (
            []
            if path.is_file() and os.access(path, os.X_OK)
            else [f"{program} is missing or may not be executed"]
        )
        return found + [
            f"{word} is missing"
            for word in rest
            if word.startswith("recipes/") and not (ROOT / word).exists()
        ]
    return []


def main() -> int:
    if not PROGRAM.exists():
        sys.exit(f"check_readme: {PROGRAM} is missing; run tools/build first")
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    checked, failed = 0, 0
    for page, number, line in ((page, *place) for page in pages for place in blocks(page.read_text())):
        line = line.removeprefix("$ ")
        if not line.startswith(STARTS):
            continue
        line = re.sub(r"\s+#.*$", "", line)
        for part in re.findall(r"""(?:'[^']*'|"[^"]*"|[^'"&|;]|(?<!&)&(?!&))+""", line):
            try:
                words = [word for word in shlex.split(part) if not re.fullmatch(r"[A-Z_]+=.*|[<>].*", word)]
            except ValueError as error:
                words, problems = [], [f"cannot be parsed: {error}"]
            else:
                problems = problems_of(words) if words and words[0].startswith(STARTS) else []
            checked += bool(words)
            failed += bool(problems)
            for problem in problems:
                print(f"{page.relative_to(ROOT)}:{number}: {part}: {problem}")
    if checked == 0:
        print("no page shows a command; the two commands of a first run belong into README.md")
        failed = 1
    print(f"{len(pages)} pages: {checked} command lines checked, {failed} do not hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
