"""Links the programs once more, from the objects of a build, so that they run beside an old glibc: against
Debian 11's C and C++ libraries, with everything else inside of them that is not LibTorch."""

import os
import pathlib
import shlex
import subprocess

TRIPLET = "x86_64-linux-gnu"
SUITE = "bullseye"  # glibc 2.31
# Of SUITE: what is linked against, and licences of what is carried.
SYSROOT = ("libc6", "libc6-dev", "libstdc++6", "libgcc-s1", "gcc-10-base")
HERE = pathlib.Path(__file__).resolve().parent
# Libraries that Debian has no archive of: its own source packages make one. Name: (source package, the binary
# package whose version is taken, CMake's options, its target, where the archive lies).
SOURCES = {
    "sentencepiece": (
        "sentencepiece",
        "libsentencepiece-dev",
        [],
        "sentencepiece",  # a shared library only, of whose objects an archive is made
        "src/CMakeFiles/sentencepiece.dir",
    ),
    "fmt": (
        "fmtlib",
        "libfmt-dev",
        ["-DBUILD_SHARED_LIBS=OFF", "-DFMT_TEST=OFF", "-DFMT_DOC=OFF"],
        "fmt",
        "libfmt.a",
    ),
    "simdjson": ("simdjson", "libsimdjson-dev", ["-DBUILD_SHARED_LIBS=OFF"], "simdjson", "libsimdjson.a"),
}
UNUSED = ("spdlog", "sentencepiece_train")  # libraries that CMake names, and nothing of which is used


def run(*command, **options):
    """The command's output; its words, and exit 3, where it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-3000:]
        raise SystemExit(f"tools/package: {' '.join(str(word) for word in command[:4])} ...: {said}")
    return done.stdout


def download(parts, suite):
    """Packages of a minimal Debian, not unpacked; needs root once, since debootstrap does."""
    folder = parts / suite
    if not (folder / ".complete").exists():  # what was broken off goes on where it was
        print(f"fetching glibc of Debian's {suite}", flush=True)
        run("debootstrap", "--download-only", "--variant=minbase", "--include=libc6-dev", suite, folder)
        (folder / ".complete").touch()
    return folder


def make_sysroot(parts):
    """Debian's packages of SYSROOT, unpacked."""
    sysroot = parts / "sysroot"
    if not (sysroot / ".complete").exists():
        unpack_debs(download(parts, SUITE), SYSROOT, sysroot)
        for link in sysroot.rglob("*"):  # those to /... lead out of it
            if link.is_symlink() and os.readlink(link).startswith("/"):
                target = sysroot / os.readlink(link)[1:]
                link.unlink()
                link.symlink_to(os.path.relpath(target, link.parent))
        (sysroot / ".complete").touch()
    return sysroot


def unpack_debs(downloads, packages, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        found = sorted(downloads.glob(f"var/cache/apt/archives/{package}_*.deb"))
        if len(found) != 1:
            raise SystemExit(
                f"tools/package: {downloads}: expected one package {package}, found {len(found)}; remove the "
                "folder, so that it is fetched anew"
            )
        run("dpkg-deb", "-x", found[0], folder)


def make_static(parts, name):
    """An archive of a library, from the source package of the Debian that this runs on."""
    source, package, options, target, made = SOURCES[name]
    version = run("dpkg-query", "-W", "-f=${source:Version}", package)
    folder = parts / f"{source}-{version}"
    archive = folder / "build" / made
    if (folder / ".complete").exists():
        return archive if archive.is_file() else folder / "build" / f"lib{name}.a"
    print(f"building lib{name}.a from Debian's {source} {version}", flush=True)
    run("rm", "-rf", folder)
    lists = folder / "apt"
    (lists / "lists/partial").mkdir(parents=True)
    (lists / "parts").mkdir()
    for file in [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")]:
        if not file.is_file() or "debian-archive" not in file.read_text() and file.suffix == ".sources":
            continue
        text = file.read_text().replace("Types: deb\n", "Types: deb-src\n")
        lines = [
            line.replace("deb ", "deb-src ", 1) if line.startswith("deb ") else line
            for line in text.split("\n")
        ]
        (lists / "parts" / (file.stem + (file.suffix or ".list"))).write_text("\n".join(lines))
    apt = [
        "apt-get",
        "-qq",
        "-o",
        "Dir::Etc::sourcelist=/dev/null",
        "-o",
        f"Dir::Etc::sourceparts={lists}/parts",
    ]
    apt += ["-o", f"Dir::State::lists={lists}/lists", "-o", "APT::Sandbox::User=root"]
    run(*apt, "update")
    run(*apt, "source", f"{source}={version}", cwd=folder)
    (tree,) = (path for path in folder.iterdir() if path.is_dir() and path.name.startswith(source))
    flags = f"-ffile-prefix-map={tree.resolve()}={source}"
    run(
        "cmake",
        "-S",
        tree,
        "-B",
        folder / "build",
        "-G",
        "Ninja",
        "-DCMAKE_BUILD_TYPE=Release",
        *options,
        f"-DCMAKE_CXX_FLAGS={flags}",
        "-DCMAKE_POSITION_INDEPENDENT_CODE=ON",
    )
    run("ninja", "-C", folder / "build", target)
    if archive.is_dir():
        objects = sorted(archive.rglob("*.o"))
        archive = folder / "build" / f"lib{name}.a"
        run("ar", "rcsD", archive, *objects)
    if not archive.exists():
        raise SystemExit(f"tools/package: {folder}/build: expected {made}, and {target} did not make it")
    (folder / ".complete").touch()
    return archive


def link_words(build, program="retort"):
    """The command that the build links a program with, from its folder."""
    last = run("ninja", "-C", build, "-t", "commands", program).strip().split("\n")[-1]
    words = shlex.split(last)
    return words[words.index("&&") + 2 : len(words) - 1 - words[::-1].index("&&")]  # behind the compiler


def headers_of(build, words):
    """What was read when the objects and archives on a linker's command line were compiled."""
    folders = []  # src/base/libbase.a is made of src/base/CMakeFiles/base.dir
    for word in words:
        path = pathlib.PurePosixPath(word)
        if path.suffix == ".o":
            folders.append(word)
        elif path.suffix == ".a" and not path.is_absolute():
            folders.append(f"{path.parent / 'CMakeFiles' / path.stem.removeprefix('lib')}.dir/")
    headers, wanted = set(), False
    for line in run("ninja", "-C", build, "-t", "deps").split("\n"):
        if line and not line.startswith(" "):
            wanted = line.startswith(tuple(folders))
        elif wanted and line:
            headers.add(line.strip())
    return headers


def library_for(parts, path):
    """What is linked in place of a shared library of Debian's: archives."""
    name = pathlib.Path(path).name.split(".so")[0].removeprefix("lib")
    if name in UNUSED:
        return []
    if name in SOURCES:
        return [make_static(parts, name)]
    if name == "hdf5":  # without its reader of remote files, which alone wants libcurl
        return [f"/usr/lib/{TRIPLET}/lib{one}.a" for one in ("hdf5_serial", "sz", "aec")]
    archive = f"/usr/lib/{TRIPLET}/lib{name}.a"
    if not os.path.exists(archive):
        raise SystemExit(
            f"tools/package: {path}: expected an archive {archive} to link in its place; "
            "add it to SOURCES in tools/packaging/link.py"
        )
    return [archive]


def link_program(build, parts, output):
    """The program of the build that is called like `output`."""
    sysroot = make_sysroot(parts)
    words, linked, skip = link_words(build, output.name), [], False
    for word in words:
        if skip:
            skip = False
        elif word == "-o":
            skip = True
        elif word.startswith("-Wl,-rpath") or word == "-Wl,--disable-new-dtags":
            continue
        elif ".so" in word and word.startswith("/usr/"):
            linked += library_for(parts, word)
        else:
            linked.append(word)
    compat = parts / "old_glibc.o"
    run("gcc", "-O2", "-fPIE", "-c", HERE / "old_glibc.c", "-o", compat)
    plain, user = sysroot / "lib" / TRIPLET, sysroot / "usr/lib" / TRIPLET

    def own(name):
        return run("g++", f"-print-file-name={name}").strip()

    # Symbols that libstdc++ got after GCC 10 come from the archive behind it.
    runtime = [user / "libstdc++.so.6", own("libstdc++.a")]
    begin = [user / "Scrt1.o", user / "crti.o", own("crtbeginS.o")]  # GCC takes those of this machine
    runtime += [plain / f"lib{one}" for one in ("m.so.6", "gcc_s.so.1", "pthread.so.0", "dl.so.2", "rt.so.1")]
    run(
        "gcc",
        f"--sysroot={sysroot}",
        "-nostdlib",
        *begin,
        *linked,
        compat,
        "-Wl,--as-needed",
        *runtime,
        "-lgcc",
        user / "libc.so",
        "-lgcc",
        own("crtendS.o"),
        user / "crtn.o",
        "-Wl,--disable-new-dtags",
        "-Wl,-rpath,$ORIGIN/../lib/retort",
        "-o",
        output,
        cwd=build,
    )
    run("strip", output)
    return sysroot


def make_stand_in(name, macro, output):
    script = output.with_suffix(".map")
    script.write_text(f"{name} {{ *; }};\n")
    run(
        "gcc",
        "-O2",
        "-shared",
        "-fPIC",
        "-nostdlib",
        f"-D{macro}",
        HERE / "cuda_stand_in.c",
        f"-Wl,-soname,{name}",
        f"-Wl,--version-script={script}",
        "-o",
        output,
    )
    script.unlink()
    run("strip", output)
