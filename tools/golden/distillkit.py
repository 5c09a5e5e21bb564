#!/usr/bin/env python3
"""Goldens for tests/import: folders of teacher log-probabilities written by DistillKit's own compressor, and
what its own decompressor reads in them.

DistillKit is not on PyPI; a clone of github.com/arcee-ai/DistillKit (commit below) is named on the command
line and nothing of it is kept.
Next tokens are drawn from the distributions themselves, as in real texts, so that the position offset can be
checked. Next to each folder NAME lies NAME.expected: for each position of each text, in order, k int32 ids
and k float32 log-probabilities, little-endian.
Run: third_party/peers/bin/python tools/golden/distillkit.py CLONE
"""
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
import sys

import torch
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/golden/distillkit"
COMMIT = "a61c2e7d25c2e990d45832e12bd8542bdee9c810"
SEED = 7
VOCABULARY, KEPT = 300, 16
TEXTS = [7, 3, 9, 5]  # tokens; a position fewer
COMMON = {"d": VOCABULARY, "k": KEPT, "residual_bins": []}
CONFIGS = {
    "exact": {"exact_k": 16, "delta_encoding": False},
    "polynomial": {
        "exact_k": 4,
        "exact_dtype": "bfloat16",
        "polynomial_terms": [0, 1, 2, "sqrt"],
        "delta_encoding": False,
    },
    "bins": {
        "exact_k": 3,
        "polynomial_terms": [0, 1, "exp"],
        "normalize_t": True,
        "delta_encoding": False,
        "residual_bins": [
            {"scale_dtype": "float16", "element_bits": 8, "num_elements": 7},
            {"scale_dtype": "bfloat16", "element_bits": 3, "num_elements": 5},
        ],
    },
    "delta": {
        "exact_k": 6,
        "polynomial_terms": [0, 1],
        "residual_bins": [{"scale_dtype": "float32", "element_bits": 1, "num_elements": 4}],
    },
    "diffusion": {
        "exact_k": 2,
        "exact_dtype": "float16",
        "error_diffusion": True,
        "residual_bins": [
            {"scale_dtype": "float64", "element_bits": 11, "num_elements": 10},
            {"scale_dtype": "float16", "element_bits": 33, "num_elements": 4},
        ],
    },
    "half-terms": {
        "exact_k": 1,
        "exact_dtype": "float64",
        "polynomial_terms": [0, 1, "sqrt"],
        "term_dtype": "bfloat16",
        "delta_encoding": False,
    },
    "half-normalized": {
        "exact_k": 2,
        "polynomial_terms": [0, 1, 2],
        "term_dtype": "bfloat16",
        "normalize_t": True,
        "delta_encoding": False,
    },
    "missing": {"exact_k": 16, "delta_encoding": False},  # a server gave fewer ranks than asked for
    "double-terms": {
        "exact_k": 2,
        "polynomial_terms": [0, 1, 3],
        "term_dtype": "float64",
        "normalize_t": True,
        "delta_encoding": False,
    },
    "legacy": {
        "vocab_size": VOCABULARY,
        "k": KEPT,
        "exact_k": 8,
        "polynomial_degree": 3,
        "with_sqrt_term": True,
    },
    "legacy-rising": {
        "vocab_size": 257,
        "k": KEPT,
        "exact_k": 4,
        "polynomial_degree": 2,
        "invert_polynomial": False,
        "term_dtype": "float16",
    },
}


def texts(vocabulary, generator):
    """Token ids and the log-probabilities of what follows each but the last."""
    for length in TEXTS:
        ids, rows = [int(torch.randint(vocabulary, (1,), generator=generator))], []
        while len(ids) < length:
            logits = 2.5 * torch.randn(vocabulary, generator=generator)
            rows.append(torch.log_softmax(logits, -1))
            ids.append(int(torch.multinomial(rows[-1].exp(), 1, generator=generator)))
        yield ids, torch.stack(rows)


def main(clone):
    head = subprocess.run(
        ["git", "-C", clone, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if head != COMMIT:
        sys.exit(f"{clone} is at {head}; the goldens are made with {COMMIT}")
    sys.path.insert(0, clone)
    from distillkit.compression import (
        DistributionQuantizationConfig,
        LegacyLogitCompressionConfig,
        LogprobCompressor,
    )
    from distillkit.compression.monotonic_logprobs import decompress_monotonic_logprobs
    from distillkit.sample_common import (
        StreamingParquetWriter,
        compressed_logit_schema,
        legacy_compressed_logit_schema,
    )

    torch.set_num_threads(1)
    shutil.rmtree(OUT, ignore_errors=True)
    for name, settings in CONFIGS.items():
        generator = torch.Generator().manual_seed(SEED)
        legacy = "vocab_size" in settings
        config = (
            LegacyLogitCompressionConfig(**settings)
            if legacy
            else DistributionQuantizationConfig(**{**COMMON, **settings})
        )
        compressor = LogprobCompressor(legacy_config=config) if legacy else LogprobCompressor(config=config)
        folder = OUT / name
        folder.mkdir(parents=True)
        (folder / "compression_config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        expected = b""
        schema = legacy_compressed_logit_schema() if legacy else compressed_logit_schema()
        with StreamingParquetWriter(
            str(folder), schema, file_max_rows=3, write_batch_size=1, queue_maxsize=16
        ) as writer:
            for ids, log_p in texts(settings.get("vocab_size", VOCABULARY), generator):
                values, indices = torch.topk(log_p, KEPT, -1)
                if name == "missing":
                    values[:, -3:], indices[:, -3:] = float("-inf"), 511
                row = compressor.compress_from_sparse(indices.unsqueeze(0), values.unsqueeze(0))
                writer.write(
                    {
                        "input_ids": ids,
                        **{
                            key: value.float().squeeze(0).tolist()
                            if value.is_floating_point()
                            else value.squeeze(0).tolist()
                            for key, value in row.items()
                        },
                    }
                )
                if legacy:  # as they come back from the file: coefficients and exact values are float32 there
                    stored = {
                        key: value.float() if value.is_floating_point() else value
                        for key, value in row.items()
                    }
                    got_ids, got = compressor.decompress_to_sparse(stored)
                else:
                    got_ids, _ = compressor.decompress_to_sparse(row)
                    got = decompress_monotonic_logprobs(
                        row["compressed_logprobs"], config, out_dtype=torch.float32
                    )
                for position in range(len(ids) - 1):
                    expected += (
                        got_ids[0, position].numpy().astype("<i4").tobytes()
                        + got[0, position].float().numpy().astype("<f4").tobytes()
                    )
        (OUT / f"{name}.expected").write_bytes(expected)
        error = float((got[0].double().exp() - values.double().exp()).abs().max())
        print(
            f"{name}: largest error of a probability in the last text {error:.2g}, largest sum "
            f"{float(got[0].double().exp().sum(-1).max()):.4f}"
        )
    versions = {
        package: importlib.metadata.version(package) for package in ("torch", "pyarrow", "pydantic", "numpy")
    }
    (OUT / "made-with.json").write_text(
        json.dumps({"DistillKit": COMMIT, "seed": SEED, **versions}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
