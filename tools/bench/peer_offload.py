"""transformers with accelerate's disk offload reads random texts: a JSON line for tools/bench/offload.

The FP8 files are widened to bf16 in an offload folder first, since there is no FP8 product on a CPU; that
time is told apart and not counted. Hidden states alone are computed, with one row of logits."""
import argparse
import json
import resource
import shutil
import time

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--folder", required=True, help="for the widened weights; removed at the end")
parser.add_argument("--memory", required=True, help="of weights that stay, e.g. 1GiB")
parser.add_argument("--texts", type=int, required=True, help="of one forward pass: each reads every layer")
parser.add_argument("--length", type=int, required=True)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
transformers.logging.set_verbosity_error()


def disk_bytes():
    for line in open("/proc/self/io"):
        if line.startswith("read_bytes"):
            return int(line.split()[1])


began = time.time()
try:
    model = transformers.AutoModelForCausalLM.from_pretrained(
        options.model,
        quantization_config=transformers.FineGrainedFP8Config(dequantize=True),
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
