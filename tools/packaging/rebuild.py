"""Builds the programs once more, in a folder of another path, so that a package made of both builds can be
compared: a file of this tree's path, a time or an order of its own in one of them would show."""

import os
import pathlib
import random
import shutil

import link

ROOT = pathlib.Path(__file__).resolve().parents[2]
THIRD_PARTY = ("libtorch", "jinja", "arrow")  # what a build reads of third_party/


def copy_tree(folder):
    """The files that git knows or would take, as they are now, and third_party/ without a second copy of its
    bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = link.run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():  # git lists what was removed and not committed, too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    (folder / "third_party").mkdir()
    for name in THIRD_PARTY:
        source, target = (ROOT / "third_party" / name).resolve(), folder / "third_party" / name
        if source.is_dir():
            try:
                shutil.copytree(source, target, copy_function=os.link, symlinks=True)
            except shutil.Error:  # another file system
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(source, target, symlinks=True)


def drawn(objects, count, commit):
    """As many of the objects, others for each commit; all of them for None."""
    return (
        objects if count is None else sorted(random.Random(commit).sample(objects, min(count, len(objects))))
    )


def objects_of(build, programs):
    """The objects that the programs are linked from, by their paths in the build."""
    found = set()
    for command in link.run("ninja", "-C", build, "-t", "commands", *programs).split("\n"):
        words = command.split()
        if "-c" in words and "-o" in words and words[words.index("-o") + 1].endswith(".o"):
            found.add(words[words.index("-o") + 1])
    return sorted(found)


def second_build(folder, programs, count):
    """The build folder of the programs in a copy of this tree at `folder`. `count` of their objects, drawn by
    the commit, and LibTorch's precompiled header are compiled anew (None: all), the others come from the
    compiler's cache where it has them."""
    copy_tree(folder)
    build = folder / "build/release"
    options = []
    if os.environ.get("RETORT_LIBTORCH"):
        options.append(f"-DRETORT_LIBTORCH={os.environ['RETORT_LIBTORCH']}")
    link.run("cmake", "--preset", "release", *options, cwd=folder)
    commit = link.run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    objects = objects_of(build, programs)
    anew = drawn(objects, count, commit)
    print(f"compiling {len(anew)} of {len(objects)} files once more, in {folder}", flush=True)
    link.run("ninja", "-C", build, *anew, env=os.environ | {"CCACHE_RECACHE": "1"})
    link.run("ninja", "-C", build, *programs)
    return build
