// What Gemma 2 and 3 share outside of their layers: scales, soft caps, windows, names.
#pragma once
#include <array>

#include "models/gguf_config.h"
#include "models/hf_config.h"

namespace retort {

// Four norms a layer. What others call post_attention_layernorm, in front of the feed-forward part, is here
// behind attention.
inline constexpr std::array kGemmaNames = {
    RoleName{Role::after_attention_norm, "", "post_attention_layernorm", "post_attention_norm"},
    RoleName{Role::mlp_norm, "", "pre_feedforward_layernorm", "ffn_norm"},
    RoleName{Role::after_mlp_norm, "", "post_feedforward_layernorm", "post_ffw_norm"}};

void read_gemma(const HfConfig& config, ModelConfig& model);  // query_pre_attn_scalar, soft caps
void add_hf_gemma(const ModelConfig& config, OrderedJson& json);

// llama.cpp derives the attention scale from the shape: hidden / heads in the largest model of a family
// (27B), known by its number of layers, else the head's width.
double gemma_gguf_scale(const ModelConfig& config, int64_t largest_layers);
// Embedding scale, attention scale, and windows in all layers but the last of each `period` unless the file
// says otherwise.
void read_gguf_gemma(const GgufMetadata& data, int64_t period, int64_t largest_layers, ModelConfig& config);
void add_gguf_windows(const ModelConfig& config, int64_t period, GgufKeys& keys);
void add_gguf_caps(const ModelConfig& config, GgufKeys& keys);
std::string gemma_gguf_refusal(const ModelConfig& config, int64_t largest_layers);

}  // namespace retort
