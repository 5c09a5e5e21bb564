#!/usr/bin/env python3
"""device_check_test.py: tools/device_check without a GPU. What is missing is one line and its exit code; with
a driver, tests and a bench that only say what real ones would, the result holds what they said, failures
too."""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import types
import unittest

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = """
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int* count) { return *count = GPUS, 0; }
int cuDeviceGetName(char* name, int size, int device) { return strncpy(name, "Stand-in", size), device; }
int cuDeviceTotalMem_v2(unsigned long* bytes, int device) { return *bytes = 80ul << 30, device; }
int cuDeviceGetAttribute(int* value, int which, int device) { return *value = which == 75 ? 9 : 0, device; }
int cuDeviceGetPCIBusId(char* text, int size, int device) {
  return strncpy(text, "0000:17:00.0", size), device;
}
int cuDriverGetVersion(int* version) { return *version = 13020, 0; }
"""
TEST = """#!/usr/bin/env python3
import json, os, sys
report = next(word for word in sys.argv if word.startswith("--gtest_output=json:")).split(":", 1)[1]
assert os.environ["RETORT_TEST_DEVICE"] == "cuda:0"
cases = [{"name": "Passes", "result": "COMPLETED"}] + CASES
json.dump({"testsuites": [{"name": "Suite", "testsuite": cases}]}, open(report, "w"))
sys.exit(any("failures" in case for case in cases))
"""
BENCH = """#!/usr/bin/env python3
import os, sys, time
said = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert said["--device"] == "cuda:0" and said["--length"] == "4096", said
assert said["--model"].endswith("/weights") or os.path.exists(said["--model"] + "/config.json"), said
if said["--weights"] == SLEEPS: time.sleep(60)
if said["--weights"] == FAILS: sys.exit("LibTorch: out of memory")
speed = {"bf16": 6250, "nf4": 4700, "keep": 2900}[said["--weights"]]
print("norm  forward  0.1 s", file=sys.stderr)
said = '{"tokens_per_s": %d, "peak_mb": 17000, "first_step_s": 3.5, "loss": 11.8, "device_weights_mb": 1}'
print(said % speed)
"""
NVIDIA_SMI = """#!/bin/sh
case "$*" in *driver_version*) echo 580.65;; *) echo "70000, 90, 600, 1700";; esac
"""


def program(path: pathlib.Path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class DeviceCheck(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "weights").mkdir()
        program(self.folder / "bin/nvidia-smi", NVIDIA_SMI)

    def driver(self, gpus=1) -> str:
        (self.folder / "driver.c").write_text(DRIVER.replace("GPUS", str(gpus)))
        library = self.folder / "libdriver.so"
        subprocess.run(["gcc", "-shared", "-fPIC", self.folder / "driver.c", "-o", library], check=True)
        return str(library)

    def build(self, cases="[]", fails="None", sleeps="None"):
        build = self.folder / "build"
        program(build / "tests/kernels_cuda_test", TEST.replace("CASES", "[]"))
        program(build / "tests/ops_test", TEST.replace("CASES", cases))
        program(
            build / "tools/bench/lora_step_bench", BENCH.replace("SLEEPS", sleeps).replace("FAILS", fails)
        )
        (build / "libretort_cuda.so").write_bytes(b"kernels")
        return build

    def check(self, *options):
        out = self.folder / "out.json"
        done = subprocess.run(
            [ROOT / "tools/device_check", "--out", out, "--build", self.folder / "build", *map(str, options)],
            capture_output=True,
            text=True,
            env=dict(os.environ, PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}"),
        )
        return done, json.loads(out.read_text()) if out.exists() else None

    def one_line(self, done, code: int, text: str):
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertIn(text, done.stderr)

    def test_without_a_driver_or_a_gpu_it_is_one_line_and_exit_3(self):
        done, result = self.check("--driver", "libno-such-driver.so.1")
        self.one_line(done, 3, "this machine has no NVIDIA driver (libno-such-driver.so.1 is not found)")
        self.assertIsNone(result)
        done, _ = self.check("--driver", self.driver(gpus=0))
        self.one_line(done, 3, "names no GPU")

    def test_what_is_missing_is_named(self):
        done, _ = self.check("--driver", self.driver())
        self.one_line(done, 2, "kernels_cuda_test is missing; build with tools/build cuda")
        self.build()
        done, _ = self.check("--driver", self.driver(), "--model", self.folder / "none")
        self.one_line(done, 2, "none does not exist")

    def test_the_result_holds_what_was_seen(self):
        build = self.build()
        done, result = self.check("--driver", self.driver(), "--model", self.folder / "weights")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertTrue(result["finished"] and result["passed"])
        self.assertEqual(result["gpu"]["name"], "Stand-in")
        self.assertEqual(result["gpu"]["pci"], "0000:17:00.0")
        self.assertEqual(result["gpu"]["capability"], "9.0")
        self.assertEqual(result["gpu"]["memory_mb"], 81920)
        self.assertEqual(result["gpu"]["driver_cuda"], "13.2")
        self.assertEqual(result["nvidia_driver"], "580.65")
        self.assertEqual([row["passed"] for row in result["tests"]], [1, 1])
        self.assertEqual([row["weights"] for row in result["runs"]], ["bf16", "nf4", "fp8"])
        self.assertEqual([row["tokens_per_s"] for row in result["runs"]], [6250, 4700, 2900])
        self.assertNotIn("of_best_published", result["runs"][0], "another model than theirs")
        self.assertEqual(result["runs"][0]["profile"], ["norm  forward  0.1 s"])
        self.assertEqual(os.readlink(build / "tests/libretort_cuda.so"), "../libretort_cuda.so")
        self.assertEqual((build / "tools/bench/libretort_cuda.so").read_bytes(), b"kernels")

    def test_random_weights_are_written_and_removed(self):
        self.build()
        done, result = self.check("--driver", self.driver(), "--scratch", self.folder, "--tiny")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(len(result["runs"]), 3)
        self.assertEqual(list(self.folder.glob("device_check.*")), [], "weights are left behind")

    def test_runs_of_8b_are_compared_with_what_others_published(self):
        options = types.SimpleNamespace(
            build=self.build(),
            seconds=300,
            steps=2,
            model=self.folder / "weights",
            out=self.folder / "out.json",
        )
        loader = importlib.machinery.SourceFileLoader("device_check", str(ROOT / "tools/device_check"))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
        loader.exec_module(module)
        check = module.Check(options)
        check.result.update(layers=32, gpu={"pci": "0000:17:00.0"})
        for weights in ("bf16", "nf4", "fp8"):
            check.train(options.model, weights, 60)
        bf16, nf4, fp8 = check.result["runs"]
        self.assertEqual(bf16["of_best_published"], 0.5)  # 6250 of NeMo's 12,500
        self.assertEqual(nf4["of_best_published"], 0.5)  # 4700 of Surogate's 9,400
        self.assertEqual(fp8["of_best_published"], 0.25)  # 2900 of Surogate's 11,600
        self.assertEqual((bf16["goal_tokens_per_s"], nf4["goal_tokens_per_s"]), (12500, 9500))
        self.assertEqual(json.loads(options.out.read_text())["runs"], check.result["runs"])

    def test_failures_are_kept_and_the_rest_goes_on(self):
        failed = '[{"name": "Fails", "result": "COMPLETED", "failures": [{"failure": "1 is not 2"}]}]'
        self.build(cases=failed, fails="'nf4'")
        done, result = self.check("--driver", self.driver(), "--model", self.folder / "weights")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(result["finished"])
        self.assertFalse(result["passed"])
        self.assertEqual(result["tests"][1]["failed"], ["Suite.Fails"])
        self.assertEqual(result["tests"][1]["failures"], {"Suite.Fails": "1 is not 2"})
        self.assertEqual(result["runs"][1]["error"], "LibTorch: out of memory")
        self.assertEqual(result["runs"][2]["tokens_per_s"], 2900)

    def test_a_skipped_test_is_no_success(self):
        self.build(cases='[{"name": "Skips", "result": "SKIPPED"}]')
        done, result = self.check("--driver", self.driver(), "--model", self.folder / "weights")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(result["tests"][1]["skipped"], ["Suite.Skips"])
        self.assertFalse(result["passed"])

    def test_time_that_is_used_up_is_said(self):
        self.build(sleeps="'bf16'")
        options = ("--model", self.folder / "weights", "--seconds", 26)
        done, result = self.check("--driver", self.driver(), *options)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(result["runs"][0]["error"], "out of time")
        self.assertLess(result["seconds"], 40)
        self.assertTrue(result["finished"])


if __name__ == "__main__":
    unittest.main()
