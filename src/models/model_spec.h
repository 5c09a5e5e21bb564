// The `model:` section of a recipe.
#pragma once
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct ModelSpec {
  std::string path;
  std::string weights = "keep";   // keep: as stored; or f32, bf16, nf4, int8, any writable GGUF type name
  bool double_quant = true;       // nf4: absmax values quantized to 8 bits too
  std::string compute = "auto";   // auto, f32, bf16, int8
  std::string schedule = "auto";  // tokens: all layers for some tokens; layers: all tokens for a layer
  std::string memory = "";        // what a model that is read layer by layer may take
  std::string scratch = "";       // where texts wait between two layers
  std::string scratch_holds = "states";  // or activations: what backward needs of every layer too
  std::vector<std::string> add_tokens = {}, add_words = {};  // behind the tokenizer's last (add_tokens.h)
  bool mtp = false;                                          // the layer behind the last is read too
  // Without what changes no result.
  ModelSpec arithmetic() const {
    auto spec = *this;
    spec.schedule = "auto", spec.memory = "", spec.scratch = "", spec.scratch_holds = "states";
    return spec;
  }
  template <class Visitor> void fields(Visitor& field) {
    field("path", path, required(not_empty()),
          "model folder (config.json, *.safetensors, tokenizer) or .gguf file");
    field("weights", weights,
          one_of({"keep", "f32", "bf16", "nf4", "int8", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k",
                  "q5_k", "q6_k"}),
          "how the frozen linear layers are held in memory; keep = as the file stores them");
    field("double_quant", double_quant, any(),
          "nf4 only: quantize the scales to 8 bits too (QLoRA section 3)");
    field("compute", compute, one_of({"auto", "f32", "bf16", "int8"}),
          "arithmetic of activations; auto measures both for under 100 ms at start; int8: as auto, but "
          "frozen layers multiply 8-bit integers, the head in its gradient alone");
    field(
        "schedule", schedule, one_of({"auto", "tokens", "layers"}),
        "tokens: the base stays in memory, and a few texts at a time go through all of it; layers: each "
        "layer is read from the file, all texts of a step or of an evaluation go through it, and its memory "
        "is given back; auto: layers where the base is larger than model.memory. Results are the same, bit "
        "for bit");
    field("memory", memory, any(),
          "what the layers of the base and the texts between two layers may take, e.g. 16GiB; empty: half of "
          "what this machine has free");
    field("scratch", scratch, any(),
          "folder where the texts of a model that is read layer by layer wait between two layers, so that "
          "each layer is read once however many texts there are; empty: they wait in memory, and those that "
          "do not fit read the layers again");
    field("scratch_holds", scratch_holds, one_of({"states", "activations"}),
          "what lies in the scratch folder while a step is trained: states, what stands between layers, and "
          "backward computes each layer again; activations, also what backward needs of every layer without "
          "experts, so that none is computed twice, for some 30 times the disk. Results are the same, bit "
          "for bit");
    field(
        "add_tokens", add_tokens, any(),
        "special tokens to add behind the last, by their text: ['<|law|>', '<|end_of_law|>']; a chat "
        "template writes them, a text that spells them stays text. Their rows of embedding and head begin "
        "as the mean of the old ones and are trained besides the adapters, as adapter.trainable_tokens are");
    field("add_words", add_words, any(),
          "the same for tokens that are found in every text, whoever wrote it, and are shown in answers");
    field("mtp", mtp, any(),
          "read the layer behind the last of a DeepSeek V3, V3.2 or GLM-4.7-Flash folder too, which predicts "
          "the token after the next (multi-token prediction): train.mtp_weight says how much it counts, "
          "adapter.targets: [auto, mtp] puts adapters on it, and merged folders hold it");
  }
};

}  // namespace retort
