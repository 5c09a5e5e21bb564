#!/usr/bin/env python3
"""Objects compiled for AVX2 or AVX-512 may define no function that another object could be linked to instead.

The linker keeps one copy of an inline function or template instance. If it keeps the copy of a file compiled
for AVX-512, the program dies on a machine without it, far from that file. So such files may define only
symbols with internal linkage, and the entry points that no one else defines. Usage: check_dispatch.py
BUILD_FOLDER
"""
import pathlib
import subprocess
import sys


def shared_functions(path: pathlib.Path) -> list[str]:
    lines = subprocess.run(
        ["nm", "--demangle", path], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        name
        for _, kind, name in (line.split(maxsplit=2) for line in lines if not line.startswith(" " * 17))
        if kind == "W"
    ]


def main(build: pathlib.Path) -> int:
    objects = sorted(p for p in build.glob("src/**/*.o") if p.name.endswith(("_avx2.cpp.o", "_avx512.cpp.o")))
    problems = [
        f"{path.relative_to(build)}: shares '{name}': give it internal linkage, always_inline, or move it out"
        for path in objects
        for name in shared_functions(path)
    ]
    print("\n".join(problems) or f"{len(objects)} objects, none shares a function")
    if not objects:
        print(f"no AVX object under {build}: is it built?")
    return 1 if problems or not objects else 0


sys.exit(main(pathlib.Path(sys.argv[1])))
