"""The folder as an archive, a Debian package, a Python wheel."""

import base64
import hashlib
import pathlib
import shutil
import subprocess
import time
import zipfile

import link
import stage

SUMMARY = "Fine-tunes open weights by a recipe and exports quantized checkpoints, on a CPU, without network"


def archive(folder, output, seconds):
    """tar.zst: sorted, owned by nobody in particular, all times the same."""
    tar = ["tar", "--sort=name", "--format=gnu", "--owner=0", "--group=0", "--numeric-owner"]
    tar += [f"--mtime=@{seconds}", "-C", folder.parent, "-cf", "-", folder.name]
    # Blocks are cut by size, so that the number of threads does not change the bytes.
    zstd = ["zstd", "-q", "-19", "--long=27", "-T2", "-c"]
    with open(output, "wb") as file, subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        compressed = subprocess.run(zstd, stdin=packed.stdout, stdout=file)
    if packed.returncode or compressed.returncode:
        raise SystemExit(f"tools/package: {output}: tar or zstd failed")


def deb(folder, output, seconds, glibc):
    """The same tree under /usr."""
    tree = output.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(folder, tree / "usr")
    document = tree / "usr/share/doc/retort"
    (document / "LICENSE").rename(document / "copyright")
    zsh = tree / "usr/share/zsh"  # where Debian's zsh looks
    (zsh / "site-functions").rename(zsh / "vendor-completions")
    kib = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        f"Package: retort\nVersion: {stage.version()}\nArchitecture: amd64\nSection: science\n"
        f"Priority: optional\nInstalled-Size: {kib}\nDepends: libc6 (>= {glibc})\n"
        f"Maintainer: retort's authors <retort@localhost>\nDescription: {SUMMARY}\n"
    )
    stage.settle(tree, seconds)
    environment = {"SOURCE_DATE_EPOCH": str(seconds), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    # xz: Debian 11's dpkg does not know zstd.
    options = ["-Zxz", "-z6", "--threads-max=2", "--root-owner-group"]
    link.run("dpkg-deb", *options, "--build", tree, output, env=environment)
    shutil.rmtree(tree)


def wheel(folder, output, seconds, glibc):
    """Files that pip puts under the environment's bin/, lib/ and share/: no Python is among them."""
    name = f"retort-{stage.version()}"
    tag = f"py3-none-manylinux_{glibc.replace('.', '_')}_x86_64"
    file = output / f"{name}-{tag}.whl"
    members = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_file():
            place = (
                "scripts/" + inside.removeprefix("bin/") if inside.startswith("bin/") else "data/" + inside
            )
            members[f"{name}.data/{place}"] = path.read_bytes()
    metadata = f"Metadata-Version: 2.1\nName: retort\nVersion: {stage.version()}\nSummary: {SUMMARY}\n"
    members[f"{name}.dist-info/METADATA"] = (metadata + "License: Apache-2.0\n").encode()
    members[
        f"{name}.dist-info/WHEEL"
    ] = f"Wheel-Version: 1.0\nGenerator: tools/package\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = ""
    for inside, content in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += f"{inside},sha256={digest},{len(content)}\n"
    members[f"{name}.dist-info/RECORD"] = (record + f"{name}.dist-info/RECORD,,\n").encode()
    with zipfile.ZipFile(file, "w") as archive:
        for inside, content in members.items():
            entry = zipfile.ZipInfo(inside, time.gmtime(seconds)[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o100755 if ".data/scripts/" in inside else 0o100644) << 16
            archive.writestr(entry, content, compresslevel=9)
    return file
