#!/usr/bin/env python3
"""Every page of docs/ has its place in docs/README.md, which README.md names, and every link between pages
leads to a file and a heading that exist. Exits 1 and lists what does not hold."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs/README.md"


def prose(page):
    """(line number, line) outside of fenced blocks; code between backticks is blank."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", lambda code: " " * len(code.group()), line)


def anchors(page):
    """The headings as hubs link to them."""
    found = set()
    for line in page.read_text().splitlines():
        heading = re.match(r"#+ (.*)", line)
        if heading:
            words = re.sub(r"[^\w\- ]", "", heading.group(1).strip().lower())
            found.add(words.replace(" ", "-"))
    return found


def links(page):
    """(line number, target, anchor) of every link to a file."""
    for number, line in prose(page):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                yield number, path, anchor


def main():
    problems, checked = [], 0
    pages = sorted((ROOT / "docs").glob("*.md"))
    for page in [*pages, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))]:
        for number, path, anchor in links(page):
            checked += 1
            target = (page.parent / path).resolve() if path else page
            at = f"{page.relative_to(ROOT)}:{number}"
            if not target.exists():
                problems.append(f"{at}: {path} does not exist")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                problems.append(f"{at}: {path} has no heading '#{anchor}'")
    named = {(INDEX.parent / path).resolve() for _, path, _ in links(INDEX) if path}
    for page in pages:
        if page != INDEX and page not in named:
            problems.append(f"docs/README.md: {page.name} has no place in it; say what the page answers")
    if INDEX not in {(ROOT / path).resolve() for _, path, _ in links(ROOT / "README.md") if path}:
        problems.append("README.md: does not link docs/README.md")
    print("\n".join([*problems, f"{len(pages)} pages, {checked} links, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
