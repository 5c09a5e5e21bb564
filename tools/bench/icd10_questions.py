#!/usr/bin/env python3
"""Multiple-choice questions in MMLU's CSV format from the ICD-10-CM list: a diagnosis, four categories, one
of them its own.

    tools/bench/icd10_questions.py --count 200 --out build/bench/icd10-questions.csv

The wrong options are other categories of the same chapter. Draws are seeded: equal arguments give equal
bytes.
"""
import argparse
import csv
import pathlib
import random
import xml.etree.ElementTree as tree

LIST = (
    pathlib.Path(__file__).resolve().parents[2]
    / "third_party/inputs/icd10/simple_icd_10_cm/data/icd10c-tabular-April-1-2026.xml"
)


def write(out, count, seed):
    rows, chapters = [], tree.parse(LIST).getroot().iter("chapter")
    for chapter in chapters:
        categories = [
            (node.findtext("name"), node.findtext("desc"), node)
            for node in chapter.iter("diag")
            if len(node.findtext("name")) == 3
        ]
        for name, description, node in categories:
            others = [other for code, other, _ in categories if code != name and other != description]
            for leaf in node.iter("diag"):
                if leaf.find("diag") is None and leaf.findtext("desc") != description and len(others) >= 3:
                    rows.append((leaf.findtext("desc"), description, others))
    draw = random.Random(seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["question", "A", "B", "C", "D", "answer"])
        for diagnosis, right, others in draw.sample(rows, count):
            options = draw.sample(others, 3)
            place = draw.randrange(4)
            options.insert(place, right)
            writer.writerow(
                [f'Which category of ICD-10-CM holds the diagnosis "{diagnosis}"?', *options, "ABCD"[place]]
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    options = parser.parse_args()
    write(options.out, options.count, options.seed)
