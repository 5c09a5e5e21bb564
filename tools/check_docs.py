#!/usr/bin/env python3
"""Every page of docs/ has its place in docs/README.md, once; README.md names docs/README.md; every link
between pages leads to a file and a heading that exist. Exits 1 and lists what does not hold.

docs/README.md is the order: its headings are the chapters, and the first link of each numbered line is a
page. Other links there are no places. tools/site makes a site of the same order.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
BESIDE = ("README.md", "CONTRIBUTING.md", "SECURITY.md")


def prose(page):
    """(line number, line) outside of fenced blocks; code between backticks is blank."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, re.sub(r"`[^`]*`", lambda code: " " * len(code.group()), line)


def slug(heading):
    """The anchor by which hubs link to a heading of these words."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page):
    """The headings as hubs link to them; a second one of the same words ends with -1."""
    found = set()
    fenced, times = False, {}
    for line in page.read_text(encoding="utf-8").splitlines():
        fenced ^= line.lstrip().startswith("```")
        heading = re.match(r"#+ (.*)", line)
        if heading and not fenced:
            anchor = slug(heading.group(1))
            found.add(f"{anchor}-{times[anchor]}" if anchor in times else anchor)
            times[anchor] = times.get(anchor, 0) + 1
    return found


def links(page):
    """(line number, target, anchor) of every link to a file."""
    for number, line in prose(page):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if not re.match(r"[a-z]+:", target):
                path, _, anchor = target.partition("#")
                yield number, path, anchor


def order(root):
    """[(chapter, [(file, its name in the order)])], as docs/README.md has them."""
    chapters = []
    for _, line in prose(root / "docs/README.md"):
        heading, place = re.match(r"## (.*)", line), re.match(r"\d+\. \[([^]]+)\]\(([^)\s#]+)\)", line)
        if heading:
            chapters.append((heading.group(1).strip(), []))
        elif place and chapters:
            chapters[-1][1].append(((root / "docs" / place.group(2)).resolve(), place.group(1)))
    return chapters


def problems_of_order(root):
    index, pages = root / "docs/README.md", sorted((root / "docs").glob("*.md"))
    placed = [file for _, files in order(root) for file, _ in files]
    for chapter, files in order(root):
        if not files:
            yield f"docs/README.md: the chapter '{chapter}' has no page"
    for page in pages:
        times = placed.count(page)
        if page != index and times == 0:
            yield f"docs/README.md: {page.name} has no place in it; say what the page answers"
        if times > 1:
            yield f"docs/README.md: {page.name} has {times} places in it; keep one, and link to it elsewhere"
    for file in {file for file in placed if placed.count(file) > 1} - set(pages):
        yield f"docs/README.md: {file.name} has {placed.count(file)} places in it; keep one"
    if index not in {(root / path).resolve() for _, path, _ in links(root / "README.md") if path}:
        yield "README.md: does not link docs/README.md"


def main():
    problems, checked = list(problems_of_order(ROOT)), 0
    pages = sorted((ROOT / "docs").glob("*.md"))
    for page in [*pages, *(ROOT / name for name in BESIDE)]:
        for number, path, anchor in links(page):
            checked += 1
            target = (page.parent / path).resolve() if path else page
            at = f"{page.relative_to(ROOT)}:{number}"
            if not target.exists():
                problems.append(f"{at}: {path} does not exist")
            elif anchor and target.suffix == ".md" and anchor not in anchors(target):
                problems.append(f"{at}: {path} has no heading '#{anchor}'")
    print("\n".join([*problems, f"{len(pages)} pages, {checked} links, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
