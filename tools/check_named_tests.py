#!/usr/bin/env python3
"""Every test that docs/robustness.md and SECURITY.md name exists: `Suite.Name` is a TEST in tests/, and
`name.name` an add_test. Exits 1 and lists the others."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.cpp"))
known = {f"{suite}.{name}" for suite, name in re.findall(r"\bTEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)", sources)}
known |= set(re.findall(r"add_test\(NAME (\S+)", (ROOT / "tests/CMakeLists.txt").read_text()))
missing, count = [], 0
for page in ("docs/robustness.md", "SECURITY.md"):
    for name in re.findall(r"`(?:[A-Z]\w*/)?([A-Za-z]\w*\.\w+)`", (ROOT / page).read_text()):
        if name.endswith((".py", ".tsv")):
            continue
        count += 1
        if name not in known:
            missing.append(f"{page}: there is no test '{name}'")
for line in sorted(set(missing)):
    print(line)
print(f"{count} tests named, {len(set(missing))} missing")
sys.exit(1 if missing or not count else 0)
