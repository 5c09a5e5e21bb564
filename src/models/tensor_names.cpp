#include "models/tensor_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <stdexcept>

#include "models/families.h"

namespace retort {
namespace {

// The one table of roles and names. A family whose names are others lists those in Family::names.
constexpr std::array kNames = {
    RoleName{Role::embedding, "model", "embed_tokens", "token_embd"},
    RoleName{Role::head, "", "lm_head", "output"},
    RoleName{Role::final_norm, "model", "norm", "output_norm"},
    RoleName{Role::attention_norm, "", "input_layernorm", "attn_norm"},
    RoleName{Role::mlp_norm, "", "post_attention_layernorm", "ffn_norm"},
    RoleName{Role::q, "self_attn", "q_proj", "attn_q"},
    RoleName{Role::k, "self_attn", "k_proj", "attn_k"},
    RoleName{Role::v, "self_attn", "v_proj", "attn_v"},
    RoleName{Role::qkv, "self_attn", "qkv_proj", "attn_qkv"},
    RoleName{Role::o, "self_attn", "o_proj", "attn_output"},
    RoleName{Role::q_norm, "self_attn", "q_norm", "attn_q_norm"},
    RoleName{Role::k_norm, "self_attn", "k_norm", "attn_k_norm"},
    RoleName{Role::gate, "mlp", "gate_proj", "ffn_gate"},
    RoleName{Role::up, "mlp", "up_proj", "ffn_up"},
    RoleName{Role::gate_up, "mlp", "gate_up_proj", "ffn_up"},
    RoleName{Role::down, "mlp", "down_proj", "ffn_down"},
    RoleName{Role::router, "mlp", "gate", "ffn_gate_inp"},
    RoleName{Role::router_bias, "mlp", "gate.e_score_correction_bias", "exp_probs_b"},
    RoleName{Role::shared_gate, "mlp.shared_experts", "gate_proj", "ffn_gate_shexp"},
    RoleName{Role::shared_up, "mlp.shared_experts", "up_proj", "ffn_up_shexp"},
    RoleName{Role::shared_down, "mlp.shared_experts", "down_proj", "ffn_down_shexp"},
    RoleName{Role::q_a, "self_attn", "q_a_proj", "attn_q_a"},
    RoleName{Role::q_a_norm, "self_attn", "q_a_layernorm", "attn_q_a_norm"},
    RoleName{Role::q_b, "self_attn", "q_b_proj", "attn_q_b"},
    RoleName{Role::kv_a, "self_attn", "kv_a_proj_with_mqa", "attn_kv_a_mqa"},
    RoleName{Role::kv_a_norm, "self_attn", "kv_a_layernorm", "attn_kv_a_norm"},
    RoleName{Role::kv_b, "self_attn", "kv_b_proj", "attn_kv_b"},
    RoleName{Role::index_q, "self_attn.indexer", "wq_b", "indexer.attn_q_b"},
    RoleName{Role::index_k, "self_attn.indexer", "wk", "indexer.attn_k"},
    RoleName{Role::index_k_norm, "self_attn.indexer", "k_norm", "indexer.k_norm"},
    RoleName{Role::index_weights, "self_attn.indexer", "weights_proj", "indexer.proj"},
    RoleName{Role::mtp_token_norm, "", "enorm", "nextn.enorm"},
    RoleName{Role::mtp_hidden_norm, "", "hnorm", "nextn.hnorm"},
    RoleName{Role::mtp_join, "", "eh_proj", "nextn.eh_proj"},
    RoleName{Role::mtp_norm, "shared_head", "norm", "nextn.shared_head_norm"},
};

const RoleName& names_of(const ModelConfig& config, Role role) {
  for (const auto names : {family_of(config).names, std::span<const RoleName>(kNames)}) {
    const auto found = std::ranges::find(names, role, &RoleName::role);
    if (found != names.end()) return *found;
  }
  throw std::logic_error(
      role == Role::none
          ? std::string("a tensor without a role: whoever makes it says what it does (ops/role.h)")
          : fmt::format("{} has no name for the role {} (models/tensor_names.cpp)", config.family,
                        static_cast<int>(role)));
}

std::string dotted(std::string_view part) { return part.empty() ? "" : std::string(part) + "."; }

const char* suffix(const TensorPlace& place) { return place.bias ? ".bias" : ".weight"; }

bool is_norm(Role role) {
  switch (role) {
    case Role::final_norm:
    case Role::attention_norm:
    case Role::after_attention_norm:
    case Role::mlp_norm:
    case Role::after_mlp_norm:
    case Role::q_norm:
    case Role::k_norm: return true;
    default: return false;
  }
}

}  // namespace

std::string module_name(const ModelConfig& config, const TensorPlace& place) {
  const auto& [role, block, field, gguf] = names_of(config, place.role);
  return (place.layer < 0 ? "" : fmt::format("model.layers.{}.", place.layer)) + dotted(block) +
         (place.expert < 0 ? "" : fmt::format("experts.{}.", place.expert)) + field;
}

std::string tensor_name(const ModelConfig& config, const TensorPlace& place) {
  // DeepSeek's buffer has a name of its own, without a field.
  return module_name(config, place) + (place.role == Role::router_bias ? "" : suffix(place));
}

std::string stack_name(const ModelConfig& config, const TensorPlace& place) {
  const auto& names = names_of(config, place.role);
  return fmt::format("model.layers.{}.{}experts.{}", place.layer, dotted(names.block),
                     place.role == Role::down ? names.field : "gate_up_proj");
}

std::string field_name(const ModelConfig& config, const TensorPlace& place) {
  return names_of(config, place.role).field;
}

std::string gguf_architecture(const ModelConfig& config) { return family_of(config).gguf; }

GgufTensor gguf_tensor(const ModelConfig& config, const TensorPlace& place) {
  const auto& family = family_of(config);
  GgufTensor tensor;
  tensor.name = (place.layer < 0 ? "" : fmt::format("blk.{}.", place.layer)) +
                names_of(config, place.role).gguf + (place.expert < 0 ? "" : "_exps") +
                (place.role == Role::router_bias ? ".bias" : suffix(place));
  tensor.expert = place.expert;
  tensor.plus_one = family.gguf_norms_plus_one && is_norm(place.role);
  if (family.gguf_interleaved_heads && place.role == Role::q) tensor.permuted_heads = config.heads;
  if (family.gguf_interleaved_heads && place.role == Role::k) tensor.permuted_heads = config.kv_heads;
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
