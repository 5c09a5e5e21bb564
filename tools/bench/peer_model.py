"""SmolLM2 as transformers loads it from the same GGUF file, kept as an fp32 safetensors folder: the peers
start from it, so that their start-up time does not contain the decoding of Q4_1."""
import os
import pathlib
import shutil

GGUF = pathlib.Path(__file__).resolve().parents[2] / "checkpoints/smollm2-135m-instruct-q4_1.gguf"
FOLDER = pathlib.Path(__file__).resolve().parents[2] / "build/bench/smollm2-f32"


def folder() -> pathlib.Path:
    if FOLDER.exists():
        return FOLDER
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    part = FOLDER.with_name(f"{FOLDER.name}.{os.getpid()}.part")
    AutoModelForCausalLM.from_pretrained(
        GGUF.parent, gguf_file=GGUF.name, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    ).save_pretrained(part)
    AutoTokenizer.from_pretrained(GGUF.parent, gguf_file=GGUF.name).save_pretrained(part)
    shutil.rmtree(FOLDER, ignore_errors=True)
    part.rename(FOLDER)
    return FOLDER


def load(dtype: str):
    """dtype: bf16, fp32, or nf4 (bitsandbytes with double quantization, computing in bf16)."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if dtype == "nf4":
        quantized = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        return AutoModelForCausalLM.from_pretrained(
            folder(), quantization_config=quantized, dtype=torch.bfloat16, device_map={"": "cpu"}
        )
    return AutoModelForCausalLM.from_pretrained(
        folder(), dtype={"bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    )


LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
