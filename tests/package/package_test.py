#!/usr/bin/env python3
"""package_test.py PROGRAM: `tools/package check` finds what keeps a program from starting elsewhere, and
packages of the same files are the same bytes whoever packs them, and when."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools/packaging"))
sys.dont_write_bytecode = True

import elf  # noqa: E402
import kinds  # noqa: E402
import stage  # noqa: E402

PROGRAM = sys.argv.pop(1)


def compiled(folder, name, source, *options):
    """A library without libc."""
    (folder / "a.c").write_text(source)
    out = folder / name
    out.parent.mkdir(parents=True, exist_ok=True)
    command = ["gcc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{out.name}", folder / "a.c", "-o", out]
    subprocess.run([*command, *options], check=True)
    (folder / "a.c").unlink()
    return out


class Check(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def test_a_program_as_it_is_built_is_refused(self):
        (self.folder / "bin").mkdir()
        shutil.copy(PROGRAM, self.folder / "bin/retort")
        command = [ROOT / "tools/package", "check", self.folder]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("bin/retort: asks for GLIBC_2.34 (__libc_start_main", done.stdout)
        self.assertIn("bin/retort: needs libhdf5_serial.so.103, which is neither here nor", done.stdout)
        self.assertIn("a folder of the machine that built it", done.stdout)

    def test_what_is_missing_and_what_is_not_needed_is_named(self):
        other = compiled(self.folder, "lib/libother.so", "int other(void) { return 1; }")
        compiled(self.folder, "lib/libfirst.so", "int other(void); int f(void) { return other(); }", other)
        problems, glibc = elf.problems_of(self.folder, "2.31")
        self.assertEqual(problems, ["libfirst.so: is here, and no file needs it"])
        self.assertEqual(glibc, "0")
        compiled(self.folder, "lib/libother.so", "int another(void) { return 1; }")
        self.assertIn("lib/libfirst.so: nobody here defines other", elf.problems_of(self.folder, "2.31")[0])
        other.unlink()
        self.assertIn(
            "lib/libfirst.so: needs libother.so, which is neither here nor a part of glibc",
            elf.problems_of(self.folder, "2.31")[0],
        )

    def test_a_search_path_is_written_over(self):
        library = compiled(self.folder, "liba.so", "int a;", "-Wl,-rpath,/opt/somewhere/lib")
        elf.set_rpath(library, "$ORIGIN")
        self.assertEqual(elf.Elf(library).rpath, "$ORIGIN")
        with self.assertRaises(ValueError):
            elf.set_rpath(library, "/a/path/that/is/longer/than/the/first")


class SameBytes(unittest.TestCase):
    def fill(self, folder, names, mask):
        """The same files, made in another order, by somebody with other rights."""
        before = os.umask(mask)
        for name in names:
            file = folder / "retort-1" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name * 1000)
        os.umask(before)
        stage.settle(folder / "retort-1", 1700000000)
        return folder / "retort-1"

    def test_of_every_kind(self):
        names = [
            "bin/retort",
            "lib/retort/liba.so",
            "lib/retort/libb.so",
            "lib/retort/c.so",
            "share/doc/retort/LICENSE",
            "share/zsh/site-functions/_retort",
        ]
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            one, two = pathlib.Path(one), pathlib.Path(two)
            packed = {}
            for folder, order, mask in ((one, names, 0o022), (two, names[::-1], 0o077)):
                tree = self.fill(folder, order, mask)
                kinds.archive(tree, folder / "a.tar.zst", 1700000000)
                kinds.deb(tree, folder / "a.deb", 1700000000, "2.28")
                wheel = kinds.wheel(tree, folder, 1700000000, "2.28")
                packed[folder] = [
                    path.read_bytes() for path in (folder / "a.tar.zst", folder / "a.deb", wheel)
                ]
            self.assertEqual(packed[one], packed[two])
            tar = subprocess.run(["zstd", "-dc", one / "a.tar.zst"], check=True, capture_output=True).stdout
            inside = (
                subprocess.run(["tar", "t"], input=tar, check=True, capture_output=True)
                .stdout.decode()
                .split()
            )
            self.assertEqual(inside, sorted(inside))
            self.assertTrue(wheel.name.endswith("-py3-none-manylinux_2_28_x86_64.whl"))
            with zipfile.ZipFile(wheel) as archive:
                program = next(
                    entry for entry in archive.infolist() if entry.filename.endswith("/scripts/retort")
                )
            self.assertEqual(program.external_attr >> 16, 0o100755)


if __name__ == "__main__":
    unittest.main()
