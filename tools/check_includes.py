#!/usr/bin/env python3
"""Includes go down only: a folder of src/ may include headers of strictly lower rows, and of itself."""
import pathlib
import re
import sys


def rows_of(src: pathlib.Path) -> dict[str, int]:
    """Folder -> row, from the one list: the retort_row lines of src/CMakeLists.txt."""
    lines = re.findall(r"^retort_row\((\d+) ([^)]*)\)", (src / "CMakeLists.txt").read_text(), re.M)
    return {folder: int(row) for row, folders in lines for folder in folders.split()}


def free_of_torch(src: pathlib.Path, folder: str) -> bool:
    return not re.search(r"^retort_library\(.*\bTORCH\b", (src / folder / "CMakeLists.txt").read_text(), re.M)


def main(src: pathlib.Path) -> int:
    rows, problems, files = rows_of(src), [], 0
    torch_free = {folder for folder in rows if free_of_torch(src, folder)}
    problems += [
        f"{folder}: stands in no row of {src / 'CMakeLists.txt'}"
        for folder in sorted(each.name for each in src.iterdir() if each.is_dir() and each.name not in rows)
    ]
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
                if target not in rows:
                    problems.append(
                        f"{where}: '{quoted.group(1)}' names no folder of src/; write the path from src/"
                    )
                elif target != folder and rows[target] >= rows[folder]:
                    problems.append(
                        f"{where}: {folder} (row {rows[folder]}) includes {target} (row {rows[target]}); "
                        "only lower rows are allowed"
                    )
            if angled and folder in torch_free:
                problems.append(f"{where}: {folder} is free of torch")
    print("\n".join(problems) or f"{files} files, every include goes down")
    if files == 0:
        print(f"{src}: no source files found")
    return 1 if problems or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "src")))
