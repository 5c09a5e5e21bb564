#!/usr/bin/env python3
"""Writes src/quant/code_book_tables.cpp: the code books of GGUF's IQ types as level indices, from the gguf
wheel.

The books are data of the file format: a reader needs them. Run: third_party/peers/bin/python
tools/golden/code_books.py
"""
import importlib.metadata
import pathlib

import gguf.quants as q

# name, class of the wheel, bits of a level index
BOOKS = [
    ("kIq1Book", q.IQ1_S, 2),
    ("kIq2XxsBook", q.IQ2_XXS, 2),
    ("kIq2XsBook", q.IQ2_XS, 2),
    ("kIq2SBook", q.IQ2_S, 2),
    ("kIq3XxsBook", q.IQ3_XXS, 3),
    ("kIq3SBook", q.IQ3_S, 3),
]


def main() -> None:
    lines = [
        f"// Made by tools/golden/code_books.py from gguf {importlib.metadata.version('gguf')}; do not edit.",
        "// Entry e packs the level indices of its elements, the first in the lowest bits.",
        '#include "quant/code_books.h"',
        "",
        "namespace retort {",
    ]
    for name, kind, bits in BOOKS:
        kind.init_grid()
        grid = kind.grid.reshape(-1, kind.grid_shape[-1])
        levels = sorted(set(grid.ravel().tolist()))
        index = {value: i for i, value in enumerate(levels)}
        packed = [sum(index[v] << (bits * j) for j, v in enumerate(row)) for row in grid.tolist()]
        lines += [
            "",
            f"// levels {', '.join(f'{v:g}' for v in levels)}",
            f"const uint16_t {name}[{len(packed)}] = {{",
        ]
        lines += ["    " + " ".join(f"{v}," for v in packed[i : i + 20]) for i in range(0, len(packed), 20)]
        lines += ["};"]
    lines += ["", "}  // namespace retort", ""]
    out = pathlib.Path(__file__).resolve().parents[2] / "src/quant/code_book_tables.cpp"
    out.write_text("\n".join(lines))


main()
