#!/usr/bin/env python3
"""The peer of tools/bench/decode: llama.cpp decodes several sequences that share one prompt, a token of each
a batch; one JSON line."""
import argparse
import ctypes
import json
import random
import time

import llama_cpp as llama
import numpy

parser = argparse.ArgumentParser()
parser.add_argument("--gguf", required=True)
parser.add_argument("--prompt", required=True)
parser.add_argument("--sequences", type=int, default=1)
parser.add_argument("--tokens", type=int, default=96)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

llama.llama_backend_init()
model = llama.llama_model_load_from_file(options.gguf.encode(), llama.llama_model_default_params())
vocabulary = llama.llama_model_get_vocab(model)
text = options.prompt.encode()
ids = (llama.llama_token * 256)()
count = llama.llama_tokenize(vocabulary, text, len(text), ids, 256, False, False)
params = llama.llama_context_default_params()
params.n_ctx = count + options.sequences * options.tokens + 64
params.n_batch = params.n_ubatch = max(512, options.sequences)
params.n_seq_max = options.sequences
params.n_threads = params.n_threads_batch = options.threads
params.kv_unified = True  # sequences share the prompt's cells
context = llama.llama_init_from_model(model, params)
width = llama.llama_vocab_n_tokens(vocabulary)
chosen = random.Random(7)


def draw(row):
    """Temperature 1 over the whole vocabulary, as retort draws."""
    logits = numpy.ctypeslib.as_array(llama.llama_get_logits_ith(context, row), (width,))
    cumulative = numpy.cumsum(numpy.exp(logits - logits.max()))
    return int(numpy.searchsorted(cumulative, chosen.random() * cumulative[-1]))


def fill(batch, index, token, position, sequences, wanted):
    batch.token[index], batch.pos[index], batch.logits[index] = token, position, wanted
    batch.n_seq_id[index] = len(sequences)
    for i, sequence in enumerate(sequences):
        batch.seq_id[index][i] = sequence


batch = llama.llama_batch_init(max(count, options.sequences), 0, options.sequences)
start, cpu_start = time.perf_counter(), time.process_time()
for i in range(count):
    fill(batch, i, ids[i], i, range(options.sequences), i == count - 1)
batch.n_tokens = count
assert llama.llama_decode(context, batch) == 0
tokens = [draw(count - 1) for _ in range(options.sequences)]
made = options.sequences
for step in range(options.tokens - 1):
    for sequence, token in enumerate(tokens):
        fill(batch, sequence, token, count + step, [sequence], True)
    batch.n_tokens = options.sequences
    assert llama.llama_decode(context, batch) == 0
    tokens = [draw(sequence) for sequence in range(options.sequences)]
    made += options.sequences
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
print(
    json.dumps(
        {
            "tokens_per_s": made / seconds,
            "seconds": seconds,
            "tokens_per_cpu_s": made / cpu,
            "llama_cpp_python": llama.__version__,
        }
    )
)
