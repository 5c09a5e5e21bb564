#!/usr/bin/env python3
"""Goldens of src/quant: what llama.cpp's C code, the gguf wheel and bitsandbytes make of fixed inputs.

Run: third_party/peers/bin/python tools/golden/quant.py     Writes tests/golden/quant/:
  input.f32            8 rows of 256 floats: normal, heavy tails, all positive, all negative, tiny, constant,
                       with a block of zeros, sparse
  decode/TYPE.bin      stored blocks of each GGUF type (random bytes with finite scales), then the floats they
                       stand for
  encode/TYPE.bin      the blocks that ggml_quantize_chunk makes of the input, without an importance matrix
  nf4.bin              bitsandbytes on the input: absmax [32], packed codes [1024] (first element in the high
                       nibble)
  dynamic8.bin         bitsandbytes: signed map, unsigned map (256 floats each), absmax [8], codes [2048] of
                       the input, signed map
  manifest.json        versions, seed, sizes
"""
import ctypes
import importlib.metadata
import json
import pathlib

import gguf
import numpy as np
import torch
import bitsandbytes.functional as bnb

SEED = 20260101
ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/quant"
LIB = ctypes.CDLL(
    str(
        next(
            pathlib.Path(
                importlib.metadata.distribution("llama_cpp_python").locate_file("llama_cpp/lib")
            ).glob("libggml-base.so")
        )
    )
)
T = gguf.GGMLQuantizationType
# name, id, elements, bytes; the wheel does not know the newest three
# fmt: off
TYPES = [(t.name, int(t), *gguf.GGML_QUANT_SIZES[t]) for t in
         (T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ1_S, T.IQ1_M,
          T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_NL, T.IQ4_XS, T.TQ1_0, T.TQ2_0, T.MXFP4)]
# fmt: on
TYPES += [("NVFP4", 40, 64, 36), ("Q1_0", 41, 128, 18), ("Q2_0", 42, 64, 18)]
WRITTEN = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]


def inputs(rng: np.random.Generator) -> np.ndarray:
    x = np.zeros((8, 256), np.float32)
    x[0] = rng.normal(0, 0.05, 256)
    x[1] = rng.standard_t(2, 256)
    x[2] = rng.uniform(0.5, 3, 256)
    x[3] = -rng.uniform(0.5, 3, 256)
    x[4] = rng.normal(0, 1e-6, 256)
    x[5] = 0.75
    x[6] = rng.normal(0, 1, 256)
    x[6, 64:128] = 0
    x[7] = rng.normal(0, 1, 256) * (rng.random(256) < 0.1)
    return x


def c_decode(name: str, blocks: np.ndarray, count: int) -> np.ndarray:
    out = np.empty(count, np.float32)
    function = getattr(LIB, f"dequantize_row_{name.lower().replace('_k', '_K')}")
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    function.restype = None
    function(blocks.ctypes.data, out.ctypes.data, count)
    return out


def random_blocks(
    rng: np.random.Generator, name: str, elements: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    chosen, values = [], []
    while len(chosen) < max(2, 512 // elements):  # refuse scales that are not finite, or absurd
        block = rng.integers(0, 256, size, np.uint8)
        decoded = c_decode(name, block, elements)
        if np.isfinite(decoded).all() and 1e-6 < np.abs(decoded).max() < 1e5:
            chosen.append(block)
            values.append(decoded)
    return np.concatenate(chosen), np.concatenate(values)


def main() -> None:
    rng = np.random.default_rng(SEED)
    (ROOT / "decode").mkdir(parents=True, exist_ok=True)
    (ROOT / "encode").mkdir(exist_ok=True)
    x = inputs(rng)
    x.tofile(ROOT / "input.f32")
    manifest = {
        "seed": SEED,
        "versions": {
            p: importlib.metadata.version(p)
            for p in ("gguf", "llama_cpp_python", "bitsandbytes", "torch", "numpy")
        },
        "types": {},
    }
    LIB.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    LIB.ggml_quantize_chunk.restype = ctypes.c_size_t
    for name, type_id, elements, size in TYPES:
        blocks, values = random_blocks(rng, name, elements, size)
        if type_id < 40:  # the wheel's own decoder agrees
            wheel = gguf.quants.dequantize(blocks.reshape(1, -1), T(type_id)).ravel()
            assert np.allclose(wheel, values, rtol=1e-6, atol=0), name
        with open(ROOT / f"decode/{name}.bin", "wb") as file:
            file.write(blocks.tobytes() + values.tobytes())
        manifest["types"][name] = {
            "blocks": len(blocks) // size,
            "block_bytes": size,
            "block_elements": elements,
        }
        if name in WRITTEN:
            out = np.zeros(x.size // elements * size, np.uint8)
            assert (
                LIB.ggml_quantize_chunk(type_id, x.ctypes.data, out.ctypes.data, 0, 8, 256, None) == out.size
            )
            out.tofile(ROOT / f"encode/{name}.bin")
            if name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
                same = (gguf.quants.quantize(x, T(type_id)).ravel() == out).mean()
                print(f"{name}: {100 * same:.2f}% of bytes equal the gguf wheel's")
    tensor = torch.from_numpy(x)
    codes, state = bnb.quantize_4bit(tensor, blocksize=64, quant_type="nf4", compress_statistics=False)
    (ROOT / "nf4.bin").write_bytes(state.absmax.float().numpy().tobytes() + codes.numpy().tobytes())
    signed, unsigned = bnb.create_dynamic_map(signed=True), bnb.create_dynamic_map(signed=False)
    codes8, state8 = bnb.quantize_blockwise(tensor, code=signed, blocksize=256)
    (ROOT / "dynamic8.bin").write_bytes(
        signed.numpy().tobytes()
        + unsigned.numpy().tobytes()
        + state8.absmax.numpy().tobytes()
        + codes8.numpy().tobytes()
    )
    (ROOT / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


main()
