#!/usr/bin/env python3
"""package_test.py PROGRAM: `tools/package check` finds what keeps a program from starting elsewhere, packages
of the same files are the same bytes whoever packs them, and when, and the bill of materials names what is
there."""
import hashlib
import json
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
import parts  # noqa: E402
import rebuild  # noqa: E402
import sbom  # noqa: E402
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


def with_parts(components):
    for component in components:
        yield component
        yield from with_parts(component.get("components", []))


@unittest.skipUnless(shutil.which("dpkg-query"), "versions are looked up in Debian's list of packages")
class TwoBuilds(unittest.TestCase):
    """--rebuild: a small project in place of this tree."""

    def setUp(self):
        self.tree = pathlib.Path(tempfile.mkdtemp()) / "tree"
        self.addCleanup(shutil.rmtree, self.tree.parent)
        self.addCleanup(setattr, rebuild, "ROOT", rebuild.ROOT)
        rebuild.ROOT = self.tree

    def programs(self, text):
        """The program of two builds; `text`: what it prints, in C."""
        preset = {"name": "release", "generator": "Ninja", "binaryDir": "${sourceDir}/build/release"}
        (self.tree / "third_party/jinja").mkdir(parents=True)
        (self.tree / "third_party/jinja/header.h").write_text("#define HEADER 1\n")
        (self.tree / ".gitignore").write_text("/build/\n/third_party\n")
        (self.tree / "CMakePresets.json").write_text(json.dumps({"version": 5, "configurePresets": [preset]}))
        (self.tree / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.25)\nproject(toy LANGUAGES C)\nadd_executable(toy a.c b.c)\n"
            "target_include_directories(toy PRIVATE third_party/jinja)\n"
            'target_compile_definitions(toy PRIVATE HERE="${PROJECT_SOURCE_DIR}")\n'
        )
        (self.tree / "a.c").write_text("#include <header.h>\nint b(void);\nint main(void) { return b(); }\n")
        (self.tree / "b.c").write_text(f"#include <stdio.h>\nint b(void) {{ return puts({text}); }}\n")
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost", "-C", self.tree]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "toy"]):
            subprocess.run([*git, *command], check=True)
        for command in (["cmake", "--preset", "release"], ["ninja", "-C", "build/release"]):
            subprocess.run(command, cwd=self.tree, check=True, capture_output=True)
        second = rebuild.second_build(self.tree / "build/package/elsewhere", ["toy"], 1)
        return [(build / "toy").read_bytes() for build in (self.tree / "build/release", second)]

    def test_a_path_in_a_program_shows(self):
        first, second = self.programs("HERE")
        self.assertNotEqual(first, second)

    def test_what_is_built_from_the_same_files_is_the_same(self):
        first, second = self.programs('"toy"')
        self.assertEqual(first, second)

    def test_each_commit_draws_others(self):
        objects = [f"{i}.o" for i in range(100)]
        self.assertEqual(rebuild.drawn(objects, 5, "a"), rebuild.drawn(objects, 5, "a"))
        self.assertNotEqual(rebuild.drawn(objects, 5, "a"), rebuild.drawn(objects, 5, "b"))
        self.assertEqual(rebuild.drawn(objects, None, "a"), objects)
        self.assertEqual(rebuild.drawn(objects[:3], 5, "a"), objects[:3])


class Bill(unittest.TestCase):
    BUILD = pathlib.Path(PROGRAM).resolve().parent

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)

    def checked(self, text):
        """The bill by its references, after what holds of every bill: each reference is one component's."""
        bill = json.loads(text)
        self.assertEqual((bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.7"))
        everything = [bill["metadata"]["component"], *with_parts(bill["components"])]
        found = {component["bom-ref"]: component for component in everything}
        self.assertEqual(len(found), len(everything), "two components have one bom-ref")
        for dependency in bill["dependencies"]:
            self.assertIn(dependency["ref"], found)
            self.assertLessEqual(set(dependency["dependsOn"]), set(found))
        self.needs = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
        return found

    def test_a_build_is_what_it_is_linked_from_and_loads(self):
        text = sbom.of_build(self.BUILD, "1.2", 1700000000, ["retort"])
        self.assertEqual(text, sbom.of_build(self.BUILD, "1.2", 1700000000, ["retort"]))
        found = self.checked(text)
        needs = self.needs["program:retort"]
        for name in ("LibTorch", "libgomp", "HDF5", "SentencePiece", "yaml-cpp", "simdjson", "Zstandard"):
            self.assertIn(name, needs)
        for name in ("OpenSSL", "fmt", "CLI11", "nlohmann-json", parts.JINJA.name, "glibc"):
            self.assertIn(name, needs)
        for part in parts.DEBIAN:
            if part.name in needs:
                self.assertTrue(found[part.name]["licenses"], part.name)
                self.assertRegex(found[part.name]["purl"], r"^pkg:deb/debian/[^@]+@[^@]+$")
        torch = found["LibTorch"]["components"]
        names = {pathlib.Path(one["name"]).name: one for one in torch}
        self.assertEqual(set(names), {"libc10.so", "libtorch_cpu.so"})
        c10 = names["libc10.so"]
        digest = hashlib.sha256(pathlib.Path(c10["name"]).read_bytes()).hexdigest()
        self.assertEqual(c10["hashes"], [{"alg": "SHA-256", "content": digest}])
        self.assertNotIn("/", found["file:retort"]["name"])

    def test_a_package_is_what_it_carries(self):
        (self.folder / "bin").mkdir()
        shutil.copy(PROGRAM, self.folder / "bin/retort")
        gomp = compiled(self.folder, "lib/retort/libgomp.so.1", "int omp(void) { return 1; }")
        compiled(self.folder, "lib/retort/libc10.so", "int omp(void); int f(void) { return omp(); }", gomp)
        compiled(self.folder, "lib/retort/libarrow.so.1", "int arrow;")  # nothing needs it
        text = sbom.of_folder(self.folder, self.BUILD, self.folder / "none", "1.2", 1700000000, "2.31")
        found = self.checked(text)
        needs = self.needs["program:retort"]
        for name in ("LibTorch", "libgomp", "HDF5", "libaec", "fmt", "libstdc++.a"):
            self.assertIn(name, needs)
        for name in ("Arrow and Parquet", "curl", "spdlog"):
            self.assertNotIn(name, found)
        self.assertEqual(found["HDF5"]["properties"], [{"name": "retort:linkage", "value": "static"}])
        self.assertNotIn("components", found["HDF5"])
        self.assertEqual(found["glibc"]["versionRange"], "vers:generic/>=2.31")
        self.assertEqual(
            found["file:lib/retort/libgomp.so.1"]["hashes"][0]["content"],
            hashlib.sha256(gomp.read_bytes()).hexdigest(),
        )
        compiled(self.folder, "lib/retort/libgomp.so.1", "int omp(void) { return 2; }")
        self.assertNotEqual(
            text, sbom.of_folder(self.folder, self.BUILD, self.folder / "none", "1.2", 1700000000, "2.31")
        )

    def test_the_signer_has_openssl_inside_and_no_libtorch(self):
        signer = self.BUILD / "retort-sign"
        self.assertTrue(signer.exists(), f"{signer}: packages bring it")
        (self.folder / "bin").mkdir()
        for name in stage.PROGRAMS:
            shutil.copy(self.BUILD / name, self.folder / "bin" / name)
        (self.folder / "lib").mkdir()
        text = sbom.of_folder(self.folder, self.BUILD, self.folder / "none", "1.2", 1700000000, "2.31")
        found = self.checked(text)
        needs = self.needs["program:retort-sign"]
        for name in ("OpenSSL", "fmt", "CLI11", "nlohmann-json", "libstdc++.a", "glibc"):
            self.assertIn(name, needs)
        for name in ("LibTorch", "HDF5", "curl", "Arrow and Parquet"):
            self.assertNotIn(name, needs)
        self.assertEqual(found["OpenSSL"]["licenses"][0]["license"]["id"], "Apache-2.0")
        digest = hashlib.sha256(signer.read_bytes()).hexdigest()
        self.assertEqual(found["file:bin/retort-sign"]["hashes"][0]["content"], digest)

    def test_what_nobody_listed_is_named(self):
        bill = sbom.Bill("1.2", 1700000000)
        (self.folder / "libnobody.so.3").write_bytes(b"")
        with self.assertRaisesRegex(SystemExit, "libnobody.so.3: is packed, and tools/packaging/parts.py"):
            sbom.add_carried(bill, self.folder, self.folder / "libnobody.so.3", self.folder)

    def run_sbom(self):
        return subprocess.run([self.folder / "bin/retort", "sbom"], capture_output=True, text=True)

    def test_the_program_compares_the_bill_with_itself(self):
        program = self.folder / "bin/retort"
        program.parent.mkdir()
        shutil.copy(PROGRAM, program)
        done = self.run_sbom()
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("sbom.cdx.json: missing, and no package brought", done.stderr)

        text = sbom.of_build(self.BUILD, "1.2", 1700000000, ["retort"])
        (self.folder / "bin/sbom.cdx.json").write_text(text)
        done = self.run_sbom()
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout[-2000:])
        self.assertEqual(done.stdout, text)

        bill = json.loads(text)
        bill["components"] = [one for one in bill["components"] if one["name"] != "HDF5"]
        (self.folder / "bin/sbom.cdx.json").write_text(json.dumps(bill))
        done = self.run_sbom()
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stdout, r"libhdf5_serial.so.\d+: is loaded, and not listed")
        self.assertIn("1 differences between the files that it lists and those that are here", done.stderr)

        digest = next(one for one in json.loads(text)["components"] if one["bom-ref"] == "program:retort")[
            "components"
        ][0]["hashes"][0]["content"]
        # A file of the package's place goes before one beside the program, and its names begin elsewhere.
        packed = self.folder / sbom.PLACE
        packed.parent.mkdir(parents=True)
        moved = text.replace('"name": "retort",\n', '"name": "bin/retort",\n')
        packed.write_text(moved.replace(digest, "0" * 64))
        done = self.run_sbom()
        self.assertEqual(done.returncode, 2)
        self.assertIn(f"bin/retort: has sha256 {digest}, listed with {'0' * 64}", done.stdout)
        packed.write_text("[]")
        self.assertIn("expected a bill of materials in CycloneDX", self.run_sbom().stderr)


if __name__ == "__main__":
    unittest.main()
