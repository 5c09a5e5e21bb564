// The language model inside of a folder of a model that also sees or hears (Gemma 3 4B to 27B, Mistral Small
// 3.1): its section of config.json, and its tensors under the names that it would have alone.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "formats/weight_file.h"

namespace retort {

// config.json's text_config, with the token ids and the tying of the head that stand beside it; nullopt where
// the folder holds a language model alone. FormatError when the section is none.
std::optional<Json> text_config(const Json& config, const std::string& file);

// Renames the tensors of the language model ("model.language_model.layers.0.",
// "language_model.model.layers.0.") to "model.layers.0." and drops all others. How many were dropped.
// FormatError when no tensor is the text part's.
size_t keep_text_part(WeightFile& file);

// What is said of such a folder, once, where somebody reads it.
std::string describe_left_out(size_t tensors);

// Tensors of layers behind the last, "model.layers.61." of 61 layers, and a line about so many of them.
size_t count_beyond(const WeightFile& file, int64_t layers);
std::string describe_beyond(size_t tensors);
// One line of a run that reads it (model.mtp), whose loss counts it so many times.
std::string describe_mtp(double weight);

// "model.layers.0.mlp.up_proj" of the same module inside of a multimodal model, as PEFT names it there.
std::string plain_module(std::string_view name);
// The way back, as transformers 5 names it.
std::string multimodal_module(std::string_view plain);

}  // namespace retort
