#!/usr/bin/env python3
"""Every test that docs/robustness.md names exists: `Suite.Name` is a TEST in tests/, `name.name` an add_test.
Exits 1 and lists the others."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.cpp"))
known = {f"{suite}.{name}" for suite, name in re.findall(r"\bTEST(?:_F|_P)?\(\s*(\w+)\s*,\s*(\w+)", sources)}
known |= set(re.findall(r"add_test\(NAME (\S+)", (ROOT / "tests/CMakeLists.txt").read_text()))
named = [
    name
    for name in re.findall(r"`(?:[A-Z]\w*/)?([A-Za-z]\w*\.\w+)`", (ROOT / "docs/robustness.md").read_text())
    if not name.endswith(".py")
]
missing = sorted({name for name in named if name not in known})
for name in missing:
    print(f"docs/robustness.md: there is no test '{name}'")
print(f"{len(named)} tests named, {len(missing)} missing")
sys.exit(1 if missing or not named else 0)
