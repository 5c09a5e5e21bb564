"""What a program is made of, as a bill of materials (CycloneDX 1.7): each part with its version, its licence,
where it comes from, and the SHA-256 of the files that are loaded. The same bytes whoever writes it."""

import datetime
import email.parser
import functools
import hashlib
import json
import pathlib
import subprocess
import tarfile
import urllib.parse
import uuid
import zipfile

import elf
import link
import parts

ROOT = pathlib.Path(__file__).resolve().parents[2]
WHEELS = ROOT / "third_party/wheels"
NAME = "sbom.cdx.json"
PLACE = f"share/doc/retort/{NAME}"  # in a package
PROGRAMS = ("retort", "retort-online", "retort-import", "retort-sign", "retort-tables")
DESCRIPTION = (
    "Fine-tunes open weights by a recipe and exports quantized checkpoints, on a CPU, without network"
)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quoted(text):
    return urllib.parse.quote(text, safe="~:")  # as package URLs want versions


def licences(licence, known="concluded"):
    """One licence, or an expression of several; `known`: declared by its makers, or concluded by us."""
    if " " in licence:
        return [{"expression": licence, "acknowledgement": known}]
    kind = "name" if licence.startswith("LicenseRef") else "id"
    return [{"license": {kind: licence, "acknowledgement": known}}]


def queried(*arguments):
    """dpkg-query's output, or nothing where the package or the path is none of Debian's."""
    try:
        done = subprocess.run(["dpkg-query", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def source_of(package):
    """(source package, its version) of an installed package."""
    found = queried("-W", "-f=${source:Package} ${source:Version}\n", package).split()
    return (found[0], found[1]) if len(found) >= 2 else (None, None)


def owner_of(path):
    """The installed package that a file is of; /usr/lib is written /lib in older ones."""
    for name in (str(path), str(path).removeprefix("/usr")):
        if found := queried("-S", name):
            return found.split(": ")[0].split(",")[0]
    return None


@functools.cache
def wheel_of(name):
    """The file of tools/setup and what it states: (path, its hash, version, licence)."""
    for path in sorted(WHEELS.glob(name.replace("-", "_") + "-*")):
        version = path.name.removesuffix(".tar.gz").split("-")[1]
        if path.suffix != ".whl":
            with tarfile.open(path) as archive:
                text = archive.extractfile(f"{path.name.removesuffix('.tar.gz')}/PKG-INFO").read().decode()
        else:
            with zipfile.ZipFile(path) as archive:
                (inside,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
                text = archive.read(inside).decode()
        return (
            path,
            sha256(path),
            version,
            email.parser.Parser().parsestr(text, headersonly=True)["License-Expression"],
        )
    return None, None, None, None


class Bill:
    """Collects components; a part that is met again gets the further files and ways of linking."""

    def __init__(self, version, seconds):
        self.version, self.seconds = version, seconds
        self.components, self.needs = {}, {"retort": set()}

    def add(self, ref, name, version, licence, purl, linkage, files=(), known="concluded", **more):
        component = self.components.get(ref)
        if component is None:
            component = {"type": "library", "bom-ref": ref, "name": name}
            if version:
                component["version"] = version
            if licence:
                component["licenses"] = licences(licence, known)
            if purl:
                component["purl"] = purl
            component |= more
            component["properties"], component["components"] = [], []
            self.components[ref] = component
        way = {"name": "retort:linkage", "value": linkage}
        if way not in component["properties"]:
            component["properties"].append(way)
        for shown, path in files:
            self.add_file(component["components"], shown, path)
        return ref

    @staticmethod
    def add_file(list_of, shown, path):
        if all(one["name"] != shown for one in list_of):
            list_of.append(
                {
                    "type": "file",
                    "bom-ref": f"file:{shown}",
                    "name": shown,
                    "hashes": [{"alg": "SHA-256", "content": sha256(path)}],
                }
            )

    def add_program(self, ref, shown, path):
        component = {
            "type": "application",
            "bom-ref": ref,
            "name": path.name,
            "version": self.version,
            "licenses": licences("Apache-2.0", "declared"),
            "properties": [],
            "components": [],
        }
        self.add_file(component["components"], shown, path)
        self.components[ref] = component
        self.needs.setdefault(ref, set())
        self.needs["retort"].add(ref)

    def add_debian(self, part, linkage, files=()):
        """A part that is linked from a -dev package of the Debian that this runs on."""
        source, version = source_of(part.package)
        if not source:
            return self.add(part.name, part.name, None, part.licence, None, linkage, files)
        purl = f"pkg:deb/debian/{quoted(source)}@{quoted(version)}?arch=source"
        return self.add(part.name, part.name, version, part.licence, purl, linkage, files)

    def add_wheel(self, part, linkage, files=(), **more):
        path, digest, version, stated = wheel_of(part.package)
        purl = f"pkg:pypi/{part.package}" + (f"@{quoted(version)}" if version else "")
        if path:
            more["externalReferences"] = [
                {
                    "type": "distribution",
                    "url": f"https://pypi.org/project/{part.package}/{version}/",
                    "comment": path.name,
                    "hashes": [{"alg": "SHA-256", "content": digest}],
                }
            ]
        if not part.licence:
            more["known"] = "declared"
        return self.add(part.name, part.name, version, part.licence or stated, purl, linkage, files, **more)

    def add_jinja(self):
        patch = ROOT / "cmake/jinja/engine.patch"
        changed = {"type": "unofficial", "diff": {"url": patch.relative_to(ROOT).as_posix()}}
        notes = f"changed by engine.patch, sha256 {sha256(patch)}"
        return self.add_wheel(parts.JINJA, "static", pedigree={"patches": [changed], "notes": notes})

    def add_glibc(self, **more):
        more = {"isExternal": True, "scope": "required"} | more
        return self.add("glibc", "GNU C Library", None, parts.GLIBC, None, "shared", **more)

    def add_debian_library(self, path):
        """A shared library of this Debian that a program loads."""
        real = path.resolve()
        package = owner_of(real)
        if package is None:
            return self.add(path.name, path.name, None, None, None, "shared", [(str(real), real)])
        package = package.split(":")[0]
        source, version = source_of(package)
        part = parts.part_of(parts.library_name(path))
        if part in parts.DEBIAN:
            return self.add_debian(part, "shared", [(str(real), real)])
        purl = f"pkg:deb/debian/{quoted(package)}@{quoted(version)}?arch=amd64"
        reference = {"type": "license", "url": f"file:///usr/share/doc/{package}/copyright"}
        licence = part.licence if part else None
        more = {} if licence else {"externalReferences": [reference]}
        return self.add(package, package, version, licence, purl, "shared", [(str(real), real)], **more)

    def add_linked(self, ref, build, linkage):
        """What stands on a linker's command line, and what comes with headers alone."""
        words = link.link_words(build, ref.removeprefix("program:"))
        headers = link.headers_of(build, words)
        for part in parts.DEBIAN:
            if part.headers and any(header.startswith(part.headers) for header in headers):
                self.needs[ref].add(self.add_debian(part, "headers"))
        for word in words:
            library = parts.library_name(word)
            if library == "jinja_engine":
                self.needs[ref].add(self.add_jinja())
            elif ".so" in word and word.startswith("/"):
                part = parts.part_of(library)
                if part is None:
                    raise SystemExit(
                        f"tools/package: {word}: is linked, and tools/packaging/parts.py does not name it; "
                        "add it there with its licence"
                    )
                if part in parts.DEBIAN and linkage and library not in link.UNUSED:
                    self.needs[ref].add(self.add_debian(part, linkage))
                    if part.name == "HDF5":  # its archive needs what the shared library had in it
                        self.needs[ref].add(self.add_debian(parts.part_of("aec"), linkage))

    def text(self):
        for component in self.components.values():
            component["components"].sort(key=lambda one: one["name"])
            component["properties"].sort(key=lambda one: one["value"])
            if not component["components"]:
                del component["components"]
            if not component["properties"]:
                del component["properties"]
        stamp = datetime.datetime.fromtimestamp(self.seconds, datetime.timezone.utc)
        program = {
            "type": "application",
            "bom-ref": "retort",
            "name": "retort",
            "version": self.version,
            "description": DESCRIPTION,
            "licenses": licences("Apache-2.0", "declared"),
            "purl": f"pkg:generic/retort@{self.version}",
        }
        bill = {
            "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.7",
            "version": 1,
            "metadata": {
                "timestamp": stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "lifecycles": [{"phase": "build"}],
                "tools": {"components": [{"type": "application", "name": "tools/package"}]},
                "component": program,
            },
            "components": [self.components[ref] for ref in sorted(self.components)],
            "dependencies": [
                {"ref": ref, "dependsOn": sorted(needs)} for ref, needs in sorted(self.needs.items())
            ],
            # Torch's wheel brings code of many others, which its licence names and this list does not.
            "compositions": [{"aggregate": "incomplete", "assemblies": ["LibTorch"]}],
        }
        if "LibTorch" not in self.components:
            del bill["compositions"]
        number = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))
        bill["serialNumber"] = f"urn:uuid:{number}"
        return json.dumps(bill, indent=2, ensure_ascii=False) + "\n"


def of_build(build, version, seconds, programs=PROGRAMS):
    """Of the programs of a build as they are there: with Debian's shared libraries."""
    bill = Bill(version, seconds)
    there = [name for name in programs if (build / name).is_file()]
    if not there:
        raise SystemExit(
            f"tools/package: {build}: holds none of the programs; run tools/build release retort"
        )
    for name in there:
        ref = f"program:{name}"
        bill.add_program(ref, name, build / name)
        bill.add_linked(ref, build, None)
        for line in link.run("ldd", build / name).split("\n"):
            library, _, rest = line.strip().partition(" => ")
            path = pathlib.Path(rest.split(" (")[0])
            if not rest or not path.is_absolute():
                if "not found" in rest:
                    raise SystemExit(f"tools/package: {build / name}: needs {library}, which is not there")
                continue  # the kernel's own, and the loader
            part = parts.part_of(parts.library_name(library))
            if library in elf.GLIBC or library == "libresolv.so.2":
                bill.needs[ref].add(bill.add_glibc())
            elif part in parts.WHEELS:
                bill.needs[ref].add(bill.add_wheel(part, "shared", [(str(path), path)]))
            elif part in parts.RUNTIME and not str(path.resolve()).startswith("/usr/"):
                files = [(str(path), path)]
                bill.needs[ref].add(bill.add(part.name, part.name, None, part.licence, None, "shared", files))
            else:
                bill.needs[ref].add(bill.add_debian_library(path))
    return bill.text()


def downloaded(packages, package):
    """(source version) of a package that tools/packaging/link.py fetched: 'gcc-10', '10.2.1-6'."""
    for deb in sorted(packages.glob(f"var/cache/apt/archives/{package}_*.deb")):
        fields = link.run("dpkg-deb", "-f", deb, "Source", "Version")
        found = dict(line.split(": ", 1) for line in fields.strip().split("\n"))
        source, _, version = found.get("Source", package).partition(" (")
        return source, version.rstrip(")") or found["Version"]
    return None, None


def add_carried(bill, folder, path, packages):
    """A library that the package brings."""
    shown = [(path.relative_to(folder).as_posix(), path)]
    part = parts.part_of(parts.library_name(path))
    if part is None:
        raise SystemExit(
            f"tools/package: {path}: is packed, and tools/packaging/parts.py does not name it; add it there "
            "with its licence"
        )
    if part.name in ("CUDA runtime", "CUPTI"):  # not NVIDIA's
        name = f"stand-in for {path.name}"
        return bill.add(name, name, bill.version, "Apache-2.0", None, "shared", shown)
    if part in parts.WHEELS:
        return bill.add_wheel(part, "shared", shown)
    if part.name == "libgomp":  # torch's wheel brings it, and says no version
        return bill.add(part.name, part.name, None, part.licence, None, "shared", shown)
    source, version = downloaded(packages, part.package)
    purl = f"pkg:deb/debian/{quoted(source)}@{quoted(version)}?arch=source" if source else None
    return bill.add(part.name, part.name, version, part.licence, purl, "shared", shown)


def needed_by(program, libraries):
    """Those of the libraries that a program loads, whoever asks for them."""
    by_name = {file.soname or path.name: (path, file) for path, file in libraries.items()}
    wanted, found = list(elf.Elf(program).needed), {}
    while wanted:
        name = wanted.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name][0]
            wanted += by_name[name][1].needed
    return sorted(found.values())


def of_folder(folder, build, packages, version, seconds, glibc):
    """Of a package's folder: what lies in lib/ is shared, all else is inside of the programs. `packages`:
    where link.py put the Debian that it links against; `glibc`: the oldest that the folder runs on."""
    bill = Bill(version, seconds)
    libraries = elf.files_of(folder / "lib")
    archive = link.run("g++", "-print-file-name=libstdc++.a").strip()
    source, gcc = source_of((owner_of(pathlib.Path(archive).resolve()) or "").split(":")[0])
    for path in sorted(path for path in (folder / "bin").iterdir() if elf.is_elf(path)):
        ref = f"program:{path.name}"
        bill.add_program(ref, path.relative_to(folder).as_posix(), path)
        bill.add_linked(ref, build, "static")
        for library in needed_by(path, libraries):
            bill.needs[ref].add(add_carried(bill, folder, library, packages))
        name = "libstdc++.a"  # what the carried libstdc++ is too old for
        purl = f"pkg:deb/debian/{quoted(source)}@{quoted(gcc)}?arch=source" if source else None
        bill.needs[ref].add(bill.add(name, name, gcc, parts.GCC, purl, "static"))
        bill.needs[ref].add(bill.add_glibc(versionRange=f"vers:generic/>={glibc}"))
    return bill.text()
