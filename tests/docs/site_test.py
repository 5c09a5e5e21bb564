#!/usr/bin/env python3
"""tools/site makes a whole site of this tree and finds every fault that is planted into a small one. In a
browser, where there is one, its search finds, and no page is wider than a narrow window. Exits 77 without
markdown-it-py.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
SITE = ROOT / "tools/site"
GOOD = {
    "README.md": "# retort\n\nSee [the pages](docs/README.md).\n",
    "docs/README.md": "# Pages\n\n## First\n1. [What](../README.md): it is.\n2. [Data](data.md): kinds.\n",
    "docs/data.md": "# Data\n\nSee [above](#data).\n\n## What is *learned*\n\n"
    "| key | |\n|---|---|\n| `a.b` | c |\n",
}
# What is appended to a page -> what the line about it holds.
FAULTS = {
    "a link to no file": (
        "docs/data.md",
        "[x](gone.md)",
        "docs/data.md:11: the link to gone.md leads to no file",
    ),
    "a link to no anchor": ("docs/data.md", "[x](#gone)", "data.html: data.html has no anchor '#gone'"),
    "an anchor of another page": ("README.md", "[x](docs/data.md#no)", "data.html has no anchor '#no'"),
    "a page twice": ("docs/README.md", "3. [Again](data.md)", "data.md has 2 places in it"),
    "a page that is not there": ("docs/README.md", "3. [Gone](gone.md)", "docs/gone.md does not exist"),
    "an empty chapter": ("docs/README.md", "## Empty", "the chapter 'Empty' has no page"),
    "words that are HTML": ("docs/data.md", "as <think> does", "docs/data.md:11: <think> would be HTML"),
    "a block of HTML": ("docs/data.md", "<div>x</div>", "docs/data.md:11: is HTML"),
    "a torn table": (
        "docs/data.md",
        "| `c.d` | e |",
        "docs/data.md:11: a row of a table stands outside of one",
    ),
    "two titles": ("docs/data.md", "# Again", "docs/data.md: has 2 headings of the first level"),
    "a picture from a network": (
        "docs/data.md",
        "![x](https://example.org/x.png)",
        "data.html: img fetches https://example.org/x.png",
    ),
}


def site(tree, folder):
    return subprocess.run([SITE, folder, "--tree", tree], capture_output=True, text=True)


def write(tree, files):
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)


def faults_are_found(folder):
    wrong = []
    write(folder / "good", GOOD)
    result = site(folder / "good", folder / "good-site")
    if result.returncode != 0:
        wrong.append(f"a good tree is refused: {result.stdout}{result.stderr}")
    for i, (name, (file, line, said)) in enumerate(FAULTS.items()):
        write(folder / f"{i}", {**GOOD, file: GOOD[file] + ("" if line[0] in "3#" else "\n") + line + "\n"})
        result = site(folder / f"{i}", folder / f"{i}-site")
        if result.returncode != 1 or said not in result.stdout:
            wrong.append(
                f"{name}: expected '{said}', found {result.returncode}: {result.stdout}{result.stderr}"
            )
    write(folder / "left", {**GOOD, "docs/left.md": "# Left\n"})
    result = site(folder / "left", folder / "left-site")
    if result.returncode != 1 or "left.md has no place" not in result.stdout:
        wrong.append(f"a page without a place: {result.stdout}")
    (folder / "mine").mkdir()
    (folder / "mine/letter.txt").write_text("x")
    if site(folder / "good", folder / "mine").returncode != 2 or not (folder / "mine/letter.txt").exists():
        wrong.append("a folder that holds something else is not left alone")
    return wrong


def dom(browser, folder, address):
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=500,900",
    ]
    line = [
        browser,
        *options,
        f"--user-data-dir={folder}/profile",
        "--virtual-time-budget=5000",
        "--dump-dom",
    ]
    return subprocess.run([*line, address], capture_output=True, text=True, timeout=120).stdout


def problems_in_browser(browser, folder):
    wrong, made = [], folder / "site"
    seen = dom(browser, folder, f"file://{made}/index.html?q=warmup+share")
    if 'href="recipe-reference.html#row-train.schedule.warmup_share"' not in seen or "<mark>" not in seen:
        wrong.append("the search does not find 'warmup share' in the recipe's keys")
    if "Nothing holds all of these words" not in dom(
        browser, folder, f"file://{made}/index.html?q=zebra+quagga"
    ):
        wrong.append("the search does not say that it finds nothing")
    measure = (
        "<script>document.title = document.documentElement.scrollWidth + ' of ' + innerWidth;</script></body>"
    )
    for name in ("index", "recipe-reference", "models", "from-other-tools", "data-protection"):
        page = (made / f"{name}.html").read_text(encoding="utf-8")
        (made / "measured.html").write_text(page.replace("</body>", measure), encoding="utf-8")
        title = re.search(
            r"<title>(\d+) of (\d+)</title>", dom(browser, folder, f"file://{made}/measured.html")
        )
        if not title or int(title.group(1)) > int(title.group(2)):
            wrong.append(f"{name}.html is wider than its window: {title and title.group(0)}")
    return wrong


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        result = site(ROOT, folder / "site")
        if result.returncode == 3:
            print(result.stderr)
            return 77
        wrong = [] if result.returncode == 0 else [result.stdout + result.stderr]
        wrong += faults_are_found(folder)
        browser = (
            shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        )
        if browser:
            wrong += problems_in_browser(browser, folder)
        else:
            print("no chromium on this machine: the search was not tried")
    print("\n".join(wrong) or result.stdout.strip())
    return 1 if wrong else 0


sys.exit(main())
