#!/usr/bin/env python3
"""What llama.cpp's own quantizer stores each tensor of tiny models in: tests/golden/quant/mixtures.json.

Run: third_party/peers/bin/python tools/golden/mixtures.py
"""
import importlib.metadata
import json
import pathlib
import tempfile

import gguf
import llama_cpp
import numpy as np

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/quant/mixtures.json"
# fmt: off
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10,
              "Q3_K_S": 11, "Q3_K_M": 12, "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16,
              "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25, "BF16": 32}
# fmt: on
CASES = {
    "grouped heads, own head": dict(
        layers=18, heads=8, kv_heads=2, width=256, inner=512, experts=0, tied=False
    ),
    "one key head a query head, tied, ragged rows": dict(
        layers=10, heads=4, kv_heads=4, width=320, inner=512, experts=0, tied=True
    ),
    "eight experts": dict(layers=9, heads=4, kv_heads=2, width=256, inner=256, experts=8, tied=False),
    "rows of 48": dict(layers=2, heads=1, kv_heads=1, width=48, inner=256, experts=0, tied=False),
}


def write_model(path: str, c: dict) -> list[tuple[str, list[int]]]:
    width, inner, kv = c["width"], c["inner"], c["width"] // c["heads"] * c["kv_heads"]
    shapes = [("token_embd.weight", [64, width]), ("output_norm.weight", [width])]
    if not c["tied"]:
        shapes.append(("output.weight", [64, width]))
    for i in range(c["layers"]):
        block = {
            "attn_norm": [width],
            "ffn_norm": [width],
            "attn_q": [width, width],
            "attn_k": [kv, width],
            "attn_v": [kv, width],
            "attn_output": [width, width],
        }
        if c["experts"]:
            block |= {
                "ffn_gate_inp": [c["experts"], width],
                "ffn_gate_exps": [c["experts"], inner, width],
                "ffn_up_exps": [c["experts"], inner, width],
                "ffn_down_exps": [c["experts"], width, inner],
            }
        else:
            block |= {"ffn_gate": [inner, width], "ffn_up": [inner, width], "ffn_down": [width, inner]}
        shapes += [(f"blk.{i}.{name}.weight", shape) for name, shape in block.items()]
    w = gguf.GGUFWriter(path, "llama")
    w.add_block_count(c["layers"])
    w.add_context_length(64)
    w.add_embedding_length(width)
    w.add_feed_forward_length(inner)
    w.add_head_count(c["heads"])
    w.add_head_count_kv(c["kv_heads"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(width // c["heads"])
    w.add_vocab_size(64)
    if c["experts"]:
        w.add_expert_count(c["experts"])
        w.add_expert_used_count(2)
    w.add_tokenizer_model("none")
    for name, shape in shapes:
        w.add_tensor(name, np.zeros(shape, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return shapes


def main() -> None:
    result = {
        "versions": {p: importlib.metadata.version(p) for p in ("llama_cpp_python", "gguf")},
        "cases": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        for title, case in CASES.items():
            shapes = write_model(f"{folder}/in.gguf", case)
            types = {}
            for name, file_type in FILE_TYPES.items():
                params = llama_cpp.llama_model_quantize_default_params()
                params.ftype, params.nthread = file_type, 1
                assert (
                    llama_cpp.llama_model_quantize(
                        f"{folder}/in.gguf".encode(), f"{folder}/out.gguf".encode(), params
                    )
                    == 0
                ), name
                reader = gguf.GGUFReader(f"{folder}/out.gguf")
                assert reader.get_field("general.file_type").contents() == file_type
                stored = {t.name: t.tensor_type.name for t in reader.tensors}
                types[name] = " ".join(stored[n] for n, _ in shapes)
            result["cases"].append(
                {"title": title, **case, "tensors": [[n, s] for n, s in shapes], "types": types}
            )
    OUT.write_text(
        json.dumps(result, separators=(",", ":"))
        .replace('{"title"', '\n{"title"')
        .replace('"types":{', '\n"types":{')
        + "\n"
    )


main()
