"""transformers with accelerate's disk offload reads random texts: a JSON line for tools/bench/offload.

There is no FP8 product on a CPU: the files are widened to bf16 once, beside them, which is not counted.
Hidden states alone are computed, with one row of logits."""
import argparse
import json
import pathlib
import resource
import shutil
import time

import safetensors
import safetensors.torch
import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--widened", required=True, help="a folder for the model in bf16; kept")
parser.add_argument("--folder", required=True, help="for what accelerate writes; removed at the end")
parser.add_argument("--memory", required=True, help="of weights that stay, e.g. 1GiB")
parser.add_argument("--texts", type=int, help="of one forward pass: each reads every layer; none: widen only")
parser.add_argument("--length", type=int, default=1024)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
transformers.logging.set_verbosity_error()


def widened(tensor, scales):
    rows, columns = tensor.shape
    grid = scales.repeat_interleave(128, 0)[:rows].repeat_interleave(128, 1)[:, :columns]
    return (tensor.float() * grid).bfloat16()


def widen(model: pathlib.Path, out: pathlib.Path) -> None:
    if out.exists():
        return
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    index = json.loads((model / "model.safetensors.index.json").read_text())
    places, size = {}, 0
    layers = json.loads((model / "config.json").read_text())["num_hidden_layers"]
    for shard in sorted(set(index["weight_map"].values())):
        with safetensors.safe_open(model / shard, "pt") as file:
            tensors = {}
            for name in file.keys():
                # The MTP module behind the last layer is nothing that transformers reads.
                if name.endswith("_scale_inv") or name.startswith(f"model.layers.{layers}."):
                    continue
                tensor = file.get_tensor(name)
                if tensor.dtype == torch.float8_e4m3fn:
                    where = index["weight_map"][name + "_scale_inv"]
                    with safetensors.safe_open(model / where, "pt") as other:
                        tensor = widened(tensor, other.get_tensor(name + "_scale_inv"))
                tensors[name] = tensor
                places[name] = shard
                size += tensor.nbytes
        if tensors:
            safetensors.torch.save_file(tensors, part / shard, metadata={"format": "pt"})
    (part / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": size}, "weight_map": places})
    )
    config = json.loads((model / "config.json").read_text())
    del config["quantization_config"]
    (part / "config.json").write_text(json.dumps(config, indent=1))
    part.rename(out)


def disk_bytes():
    for line in open("/proc/self/io"):
        if line.startswith("read_bytes"):
            return int(line.split()[1])


widen(pathlib.Path(options.model), pathlib.Path(options.widened))
if not options.texts:
    raise SystemExit(0)
began = time.time()
try:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.widened,
        dtype=torch.bfloat16,
        device_map="auto",
        max_memory={"cpu": options.memory},
        offload_folder=options.folder,
    )
    model.eval()
    loaded = time.time() - began
    vocabulary = model.config.vocab_size
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, vocabulary, (options.texts, options.length), generator=generator)
    before, began = disk_bytes(), time.time()
    with torch.no_grad():
        model(ids, logits_to_keep=1, use_cache=False)
    seconds = time.time() - began
finally:
    shutil.rmtree(options.folder, ignore_errors=True)
print(
    json.dumps(
        {
            "tokens_per_s": options.texts * options.length / seconds,
            "seconds": seconds,
            "load_seconds": loaded,
            "read_mb": (disk_bytes() - before) / 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )
)
