#include "models/gguf_heads.h"

#include <fmt/format.h>

namespace retort {

std::optional<GgufHeads> gguf_heads(const ModelConfig& config, const TensorPlace& place) {
  if (!config.latent || place.role != Role::kv_b || place.bias) return std::nullopt;
  return GgufHeads{fmt::format("blk.{}.attn_k_b.weight", place.layer),
                   fmt::format("blk.{}.attn_v_b.weight", place.layer)};
}

std::string gguf_gate_up(const TensorPlace& place) {
  return fmt::format("blk.{}.ffn_gate_up_exps.weight", place.layer);
}

}  // namespace retort
