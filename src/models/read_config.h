// The same numbers from two kinds of file, and back.
#pragma once
#include "base/json.h"
#include "formats/weight_file.h"
#include "models/config.h"

namespace retort {

inline constexpr int64_t kMostExperts = 4096;  // of a layer; the largest known model has 512

// config.json; `has_head` says whether the weight files hold lm_head.weight. FormatError names file and key.
ModelConfig config_from_hf(const Json& config, const std::string& file, bool has_head);
// GGUF metadata (and the rope_freqs / rope_factors tensors).
ModelConfig config_from_gguf(const WeightFile& file);

// For export: what transformers reads, and the keys of GGUF but for the tokenizer's and general.name.
OrderedJson hf_config_json(const ModelConfig& config);
std::vector<std::pair<std::string, GgufValue>> gguf_metadata(const ModelConfig& config);
// Why no GGUF file can hold this model so that llama.cpp computes it; empty where one can. To be asked before
// the hours of training.
std::string gguf_refusal(const ModelConfig& config);
// What a GGUF file of this model says and llama.cpp does not compute: a line each.
std::vector<std::string> gguf_ignored(const ModelConfig& config);
// GGUF's rope_freqs.weight [head_dim / 2]: the plain frequency over the scaled one.
std::vector<double> rotary_divisors(const RopeConfig& rope, int64_t head_dim, int64_t context);

// Vocabulary of a GGUF file as tokenizer_from_gguf() wants it.
struct GgufVocabulary;
GgufVocabulary vocabulary_of(const WeightFile& file);

}  // namespace retort
