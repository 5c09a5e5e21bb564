#include "models/gguf_names.h"

#include <array>
#include <utility>

#include "models/experts.h"
#include "models/families.h"

namespace retort {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Inside a layer: "model.layers.N.<first>" is "blk.N.<second>".
constexpr std::array kLayerNames = {
    Pair{"input_layernorm", "attn_norm"},    Pair{"self_attn.q_proj", "attn_q"},
    Pair{"self_attn.k_proj", "attn_k"},      Pair{"self_attn.v_proj", "attn_v"},
    Pair{"self_attn.o_proj", "attn_output"}, Pair{"self_attn.qkv_proj", "attn_qkv"},
    Pair{"self_attn.q_norm", "attn_q_norm"}, Pair{"self_attn.k_norm", "attn_k_norm"},
    Pair{"mlp.gate_proj", "ffn_gate"},       Pair{"mlp.up_proj", "ffn_up"},
    Pair{"mlp.gate_up_proj", "ffn_up"},      Pair{"mlp.down_proj", "ffn_down"},
    Pair{"mlp.gate", "ffn_gate_inp"},        Pair{"block_sparse_moe.gate", "ffn_gate_inp"},
};

// The tensor of all of a layer's experts.
std::string_view stack_name(ExpertPart part) {
  return part == ExpertPart::gate ? "ffn_gate_exps"
         : part == ExpertPart::up ? "ffn_up_exps"
                                  : "ffn_down_exps";
}

bool is_gemma(const ModelConfig& config) { return config.family.starts_with("gemma"); }

// "post_attention_layernorm" is the norm before the MLP everywhere but in Gemma 2 and 3, which have four
// norms a layer.
std::optional<std::string_view> layer_name(const ModelConfig& config, std::string_view name) {
  if (is_gemma(config)) {
    if (name == "post_attention_layernorm") return "post_attention_norm";
    if (name == "pre_feedforward_layernorm") return "ffn_norm";
    if (name == "post_feedforward_layernorm") return "post_ffw_norm";
  } else if (name == "post_attention_layernorm") {
    return "ffn_norm";
  }
  for (const auto& [hf, gguf] : kLayerNames)
    if (name == hf) return gguf;
  return std::nullopt;
}

}  // namespace

std::string gguf_architecture(const ModelConfig& config) {
  for (const auto& family : families())
    if (config.family == family.name) return family.gguf;
  return config.family;
}

std::optional<GgufTensor> gguf_tensor(const ModelConfig& config, std::string_view hf_name) {
  const auto dot = hf_name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const auto stem = hf_name.substr(0, dot), kind = hf_name.substr(dot);  // kind: ".weight", ".bias"
  const bool norm = stem.ends_with("norm");
  if (stem == "model.embed_tokens") return GgufTensor{"token_embd" + std::string(kind)};
  if (stem == "model.norm") return GgufTensor{"output_norm" + std::string(kind), 0, is_gemma(config)};
  if (stem == "lm_head") return GgufTensor{"output" + std::string(kind)};
  constexpr std::string_view kLayers = "model.layers.";
  if (!stem.starts_with(kLayers)) return std::nullopt;
  const auto rest = stem.substr(kLayers.size());
  const auto end = rest.find('.');
  if (end == std::string_view::npos) return std::nullopt;
  if (const auto expert = expert_name(stem)) {
    const auto part = expert_part(expert->matrix);
    if (!part) return std::nullopt;
    return GgufTensor{
        "blk." + std::string(rest.substr(0, end)) + "." + std::string(stack_name(*part)) + std::string(kind),
        0, false, expert->expert};
  }
  const auto inside = layer_name(config, rest.substr(end + 1));
  if (!inside) return std::nullopt;
  GgufTensor tensor{
      "blk." + std::string(rest.substr(0, end)) + "." + std::string(*inside) + std::string(kind), 0,
      norm && is_gemma(config)};
  if (gguf_architecture(config) == "llama") {
    if (*inside == "attn_q") tensor.permuted_heads = config.heads;
    if (*inside == "attn_k") tensor.permuted_heads = config.kv_heads;
  }
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
