#!/usr/bin/env python3
"""tools/check_output.py accepts what a page says and names what differs: whole numbers and words always,
numbers with a decimal point where a block is not `measured`, missing lines, further lines."""
import pathlib
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.dont_write_bytecode = True
import check_output  # noqa: E402

PRINTED = ["3 files", "loss  0.517 after 2.5 s", "a", "b", "done: runs/x", ""]
# (kind of the block, its lines, whether they are what was printed)
CASES = [
    ("", PRINTED[:-1], True),
    ("", ["3 files", "...", "done: runs/x"], True),
    ("", ["...", "b", "..."], True),
    ("", ["3 files", "..."], True),
    ("", ["3 files", "loss  0.517 after ...", "...", "done: ..."], True),
    ("", ["3 files", "loss  0.518 after 2.5 s", "...", "done: runs/x"], False),
    (" measured", ["3 files", "loss 12.5 after 1.0e-05 s", "...", "done: runs/x"], True),
    (" measured", ["3 files", "loss 0.5 after 1 min 20 s", "..."], True),
    (" measured", ["4 files", "..."], False),
    (" measured", ["3 files", "loss  0.517 after 2.5 steps", "..."], False),
    (" measured", ["...", "loss  0.517 behind 2.5 s", "..."], False),
    ("", ["3 files"], False),
    ("", [*PRINTED[:-1], "more"], False),
    ("", ["...", "b", "a", "..."], False),
    ("", [], False),
]


def main():
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        page = pathlib.Path(name) / "page.md"
        for kind, lines, fits in CASES:
            block = [f"```console{kind}", "$ true", *lines, "```"]
            page.write_text("\n".join(["# Page", "```", "$ not run", "```", *block, ""]))
            found = check_output.commands(page)
            if [command.line for command in found] != ["true"]:
                wrong.append(f"{kind}: expected one command, found {[command.line for command in found]}")
            elif (check_output.difference(found[0], PRINTED) is None) != fits:
                said = check_output.difference(found[0], PRINTED)
                wrong.append(f"{kind} {lines}: expected {'no ' * fits}difference, found {said}")
        page.write_text("```console\n$ printf 'x\\ny\\n' >&2; echo z | tee new.txt\nx\ny\nz\n```\n")
        (command,) = check_output.commands(page)
        printed = check_output.run(command, pathlib.Path(name), pathlib.Path(name))
        if printed != ["x", "y", "z"] or not (pathlib.Path(name) / "new.txt").exists():
            wrong.append(f"a command's output on both streams: {printed}")
    print("\n".join(wrong) or f"{len(CASES)} blocks are judged as they should be")
    return 1 if wrong else 0


sys.exit(main())
