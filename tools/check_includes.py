#!/usr/bin/env python3
"""Includes go down only: a folder of src/ may include headers of strictly lower rows, and of itself."""
import pathlib
import re
import sys

ROWS = {
    "base": 0,
    "quant": 1, "forest": 1, "text": 1, "distributed": 1, "report": 1,
    "ops": 2, "formats": 2, "data": 2,
    "models": 3,
    "train": 4, "adapters": 4, "generate": 4,
    "distill": 5, "eval": 5, "export": 5,
    "recipe": 6, "http": 6,
    "cli": 7, "import": 7,
}
TORCH_FREE = {"base", "quant", "forest", "text", "report", "formats", "data"}


def main(src: pathlib.Path) -> int:
    problems, files = [], 0
    for path in sorted(src.rglob("*")):
        if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
            continue
        files += 1
        folder = path.relative_to(src).parts[0]
        for number, line in enumerate(path.read_text().splitlines(), 1):
            quoted = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            angled = re.match(r"\s*#\s*include\s+<((?:torch|ATen|c10)/[^>]+)>", line)
            where = f"{path}:{number}"
            if quoted:
                target = quoted.group(1).split("/")[0]
                if target not in ROWS:
                    problems.append(f"{where}: '{quoted.group(1)}' names no folder of src/; write the path from src/")
                elif target != folder and ROWS[target] >= ROWS[folder]:
                    problems.append(f"{where}: {folder} (row {ROWS[folder]}) includes {target} (row {ROWS[target]}); only lower rows are allowed")
            if angled and folder in TORCH_FREE:
                problems.append(f"{where}: {folder} is free of torch")
    print("\n".join(problems) or f"{files} files, every include goes down")
    if files == 0:
        print(f"{src}: no source files found")
    return 1 if problems or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "src")))
