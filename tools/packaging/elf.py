"""What an ELF file of x86-64 asks of the machine it is loaded on, and whether a folder brings it."""

import pathlib
import re
import struct

# Libraries of glibc itself: there wherever a program can be started.
GLIBC = {
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
}
DT_NEEDED, DT_SONAME, DT_RPATH, DT_RUNPATH = 1, 14, 15, 29
UNDEFINED, WEAK = 0, 2


def is_elf(path):
    with open(path, "rb") as file:
        return path.is_file() and file.read(4) == b"\x7fELF"


class Elf:
    """needed, soname, rpath; wants[file] = versions it asks of another file; offers = versions it has itself;
    undefined = (symbol, version or None, weak); defined = symbols."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.bytes = self.path.read_bytes()
        if self.bytes[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path}: expected a 64-bit little-endian ELF file")
        self.machine = struct.unpack_from("<H", self.bytes, 18)[0]
        self._read_sections()
        self._read_dynamic()
        self._read_versions()
        self._read_symbols()

    def _read_sections(self):
        offset, size, count, names = struct.unpack_from("<40xQ10xHHH", self.bytes, 0)
        sections = [struct.unpack_from("<IIQQQQIIQQ", self.bytes, offset + size * i) for i in range(count)]
        table = sections[names][4]
        # name: (offset, size, how many entries)
        self.sections = {self._text(table + s[0]): (s[4], s[5], s[7]) for s in sections}

    def _text(self, offset):
        return self.bytes[offset : self.bytes.index(b"\0", offset)].decode()

    def _string(self, offset):
        return self._text(self.sections[".dynstr"][0] + offset)

    def _read_dynamic(self):
        self.needed, self.soname, self.rpath, self.rpath_at = [], "", "", None
        begin, size, _ = self.sections.get(".dynamic", (0, 0, 0))
        for tag, value in struct.iter_unpack("<qQ", self.bytes[begin : begin + size]):
            if tag == DT_NEEDED:
                self.needed.append(self._string(value))
            elif tag == DT_SONAME:
                self.soname = self._string(value)
            elif tag in (DT_RPATH, DT_RUNPATH):
                self.rpath, self.rpath_at = self._string(value), self.sections[".dynstr"][0] + value

    def _read_versions(self):
        self.wants, self.offers, self.version_of = {}, set(), {}
        at, _, count = self.sections.get(".gnu.version_r", (0, 0, 0))
        for _ in range(count):
            _, entries, file, entry, following = struct.unpack_from("<HHIII", self.bytes, at)
            entry += at
            for _ in range(entries):
                _, _, index, name, next_entry = struct.unpack_from("<IHHII", self.bytes, entry)
                self.wants.setdefault(self._string(file), set()).add(self._string(name))
                self.version_of[index] = self._string(name)
                entry += next_entry
            at += following
        at, _, count = self.sections.get(".gnu.version_d", (0, 0, 0))
        for _ in range(count):
            auxiliary, following = struct.unpack_from("<12xII", self.bytes, at)
            self.offers.add(self._string(struct.unpack_from("<I", self.bytes, at + auxiliary)[0]))
            at += following

    def _read_symbols(self):
        self.undefined, self.defined = [], set()
        begin, size, _ = self.sections.get(".dynsym", (0, 0, 0))
        versions = self.sections.get(".gnu.version", (0, 0, 0))[0]
        for i, symbol in enumerate(struct.iter_unpack("<IBBHQQ", self.bytes[begin : begin + size])):
            name, info, _, section, _, _ = symbol
            if name == 0:
                continue
            if section != UNDEFINED:
                self.defined.add(self._string(name))
                continue
            index = struct.unpack_from("<H", self.bytes, versions + 2 * i)[0] & 0x7FFF if versions else 0
            self.undefined.append((self._string(name), self.version_of.get(index), info >> 4 == WEAK))


def set_rpath(path, rpath):
    """Writes a search path over a longer one, where it stands."""
    elf = Elf(path)
    if elf.rpath == rpath:
        return
    if len(rpath) > len(elf.rpath):
        raise ValueError(f"{path}: has no room for the search path {rpath}: it says '{elf.rpath}'")
    with open(path, "r+b") as file:
        file.seek(elf.rpath_at)
        file.write(rpath.encode().ljust(len(elf.rpath), b"\0"))


def version_number(text):
    return tuple(int(part) for part in re.findall(r"\d+", text))


def files_of(folder):
    """The ELF files beneath a folder, by path."""
    found = (path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file())
    return {path: Elf(path) for path in found if not path.is_symlink() and is_elf(path)}


def problems_of(folder, limit):
    """(problems, the highest version of glibc that is asked for). `limit`: the highest that is allowed."""
    files, problems, highest = files_of(folder), [], (0,)
    carried = {path.name: elf for path, elf in files.items() if elf.soname}
    here = set().union(*(elf.defined for elf in files.values())) if files else set()
    wanted = set()
    if not files:
        problems.append(f"{folder}: holds no program")
    for path, elf in files.items():
        name = path.relative_to(folder)
        if elf.machine != 62:
            problems.append(f"{name}: is for another machine than x86-64 (e_machine {elf.machine})")
        for one in elf.rpath.split(":") if elf.rpath else []:
            if not one.startswith("$ORIGIN"):
                problems.append(
                    f"{name}: looks for libraries in {one}, a folder of the machine that built it"
                )
        for library in elf.needed:
            wanted.add(library)
            if library not in GLIBC and library not in carried:
                problems.append(f"{name}: needs {library}, which is neither here nor a part of glibc")
        for library, versions in elf.wants.items():
            for version in sorted(versions, key=version_number):
                symbols = sorted(symbol for symbol, of, _ in elf.undefined if of == version)
                if library in carried:
                    if version in carried[library].offers:
                        symbols = [one for one in symbols if one not in carried[library].defined]
                    if symbols:
                        problems.append(
                            f"{name}: asks {library} for {version} ({', '.join(symbols[:4])}), "
                            "which the one here lacks"
                        )
                elif version.startswith("GLIBC_2"):
                    highest = max(highest, version_number(version))
                    if version_number(version) > version_number(limit):
                        problems.append(
                            f"{name}: asks for {version} ({', '.join(symbols[:8])}); "
                            f"glibc {limit} is the oldest that it has to run on"
                        )
        for symbol, version, weak in elf.undefined:
            if version is None and not weak and symbol not in here:
                problems.append(f"{name}: nobody here defines {symbol}")
    for library in sorted(set(carried) - wanted):
        problems.append(f"{library}: is here, and no file needs it")
    return problems, ".".join(str(part) for part in highest)
