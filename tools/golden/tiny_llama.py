"""The Llama whose linear layers the makers of 4-bit goldens replace. Its numbers follow from what was drawn
before it."""
import json
import shutil

import torch
import transformers
from models import COMMON
from safetensors.torch import save_file


class TinyLlama:
    def __init__(self, rounded):
        """`rounded`: takes a tensor to the type that such folders keep the rest of a model in."""
        self.rounded = rounded
        self.config = transformers.LlamaConfig(
            **{**COMMON, "intermediate_size": 64},
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
        self.model = transformers.LlamaForCausalLM(self.config).eval()
        for parameter in self.model.parameters():
            parameter.data = rounded(parameter.data).float()
        self.ids = torch.randint(3, 96, (1, 24))
        self.plain = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.linears = [
            name
            for name, module in self.model.named_modules()
            if isinstance(module, torch.nn.Linear) and name != "lm_head"
        ]

    def logits_of(self, weights):
        self.model.load_state_dict({name: value.float() for name, value in weights.items()})
        with torch.no_grad():
            return self.model(self.ids).logits[0]

    def write(self, folder, section, replace, versions):
        """A folder with every linear layer but the head as `replace(weight)` gives it: tensors by the end of
        their names, and the numbers that they stand for, which are returned."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        stored, wide = {}, dict(self.plain)
        for name, value in self.plain.items():
            layer = name.removesuffix(".weight")
            if layer not in self.linears:
                stored[name] = self.rounded(value)
                continue
            parts, wide[name] = replace(value)
            stored |= {layer + key: part.contiguous() for key, part in parts.items()}
        text = self.config.to_dict() | {"architectures": ["LlamaForCausalLM"], "quantization_config": section}
        (folder / "config.json").write_text(json.dumps(text, indent=1, sort_keys=True))
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        golden = {"ids": self.ids[0].int(), "logits": self.logits_of(wide)}
        save_file(golden, folder / "golden.safetensors", metadata=versions)
        return wide
