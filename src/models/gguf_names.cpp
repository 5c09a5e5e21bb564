#include "models/gguf_names.h"

#include <array>
#include <utility>

#include "models/experts.h"
#include "models/gguf_config.h"

namespace retort {
namespace {

// Inside a layer: "model.layers.N.<first>" is "blk.N.<second>".
constexpr std::array kLayerNames = {
    NamePair{"input_layernorm", "attn_norm"},    NamePair{"self_attn.q_proj", "attn_q"},
    NamePair{"self_attn.k_proj", "attn_k"},      NamePair{"self_attn.v_proj", "attn_v"},
    NamePair{"self_attn.o_proj", "attn_output"}, NamePair{"self_attn.qkv_proj", "attn_qkv"},
    NamePair{"self_attn.q_norm", "attn_q_norm"}, NamePair{"self_attn.k_norm", "attn_k_norm"},
    NamePair{"mlp.gate_proj", "ffn_gate"},       NamePair{"mlp.up_proj", "ffn_up"},
    NamePair{"mlp.gate_up_proj", "ffn_up"},      NamePair{"mlp.down_proj", "ffn_down"},
    NamePair{"mlp.gate", "ffn_gate_inp"},        NamePair{"block_sparse_moe.gate", "ffn_gate_inp"},
};
constexpr std::array kPlainNorms = {NamePair{"post_attention_layernorm", "ffn_norm"}};

// The tensor of all of a layer's experts.
std::string_view stack_name(ExpertPart part) {
  return part == ExpertPart::gate ? "ffn_gate_exps"
         : part == ExpertPart::up ? "ffn_up_exps"
                                  : "ffn_down_exps";
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) { return family_of(config).gguf; }

std::optional<GgufTensor> gguf_tensor(const ModelConfig& config, std::string_view hf_name) {
  return family_of(config).gguf_tensor(config, hf_name);
}

std::optional<GgufTensor> gguf_tensor_named(std::string_view hf_name, std::span<const NamePair> layer_names) {
  const auto dot = hf_name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto stem = hf_name.substr(0, dot), kind = hf_name.substr(dot);  // kind: ".weight", ".bias"
  if (stem == "model.embed_tokens") return GgufTensor{"token_embd" + std::string(kind)};
  if (stem == "model.norm") return GgufTensor{"output_norm" + std::string(kind)};
  if (stem == "lm_head") return GgufTensor{"output" + std::string(kind)};
  constexpr std::string_view kLayers = "model.layers.";
  if (!stem.starts_with(kLayers)) return std::nullopt;
  const auto rest = stem.substr(kLayers.size());
  const auto end = rest.find('.');
  if (end == std::string_view::npos) return std::nullopt;
  const auto block = "blk." + std::string(rest.substr(0, end)) + ".";
  if (const auto expert = expert_name(stem)) {
    const auto part = expert_part(expert->matrix);
    if (!part) return std::nullopt;
    return GgufTensor{block + std::string(stack_name(*part)) + std::string(kind), 0, false, expert->expert};
  }
  const auto name = rest.substr(end + 1);
  for (const auto& names : {layer_names, std::span<const NamePair>(kLayerNames)})
    for (const auto& [hf, gguf] : names)
      if (name == hf) return GgufTensor{block + std::string(gguf) + std::string(kind)};
  return std::nullopt;
}

std::optional<GgufTensor> plain_gguf_tensor(const ModelConfig&, std::string_view hf_name) {
  return gguf_tensor_named(hf_name, kPlainNorms);
}

std::optional<GgufTensor> llama_gguf_tensor(const ModelConfig& config, std::string_view hf_name) {
  auto tensor = plain_gguf_tensor(config, hf_name);
  if (!tensor) return tensor;
  const auto is = [&](std::string_view name) { return tensor->name.find(name) != std::string::npos; };
  if (is(".attn_q.")) tensor->permuted_heads = config.heads;
  if (is(".attn_k.")) tensor->permuted_heads = config.kv_heads;
  return tensor;
}

int64_t gguf_row_of(int64_t hf_row, int64_t heads, int64_t rows) {
  const int64_t width = rows / heads, half = width / 2;
  const int64_t head = hf_row / width, inside = hf_row % width;
  return head * width + 2 * (inside % half) + inside / half;
}

int64_t hf_row_of(int64_t gguf_row, int64_t heads, int64_t rows) {
  const int64_t width = rows / heads, half = width / 2;
  const int64_t head = gguf_row / width, inside = gguf_row % width;
  return head * width + inside % 2 * half + inside / 2;
}

}  // namespace retort
