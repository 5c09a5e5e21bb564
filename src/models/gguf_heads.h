// Tensors of a GGUF file that hold what is one matrix, or a matrix each, in a folder.
#pragma once
#include <optional>
#include <string>

#include "models/config.h"
#include "ops/role.h"

namespace retort {

// Of latent attention's kv_b_proj [heads (n + v), L] a GGUF file holds two tensors, by head: the rows of keys
// [heads, L, n], turned, and those of values [heads, v, L]. Old files have the matrix as it is, under
// gguf_tensor()'s name.
struct GgufHeads {
  std::string keys, values;
};
std::optional<GgufHeads> gguf_heads(const ModelConfig& config, const TensorPlace& place);  // of others: none
// Where gate and up of all experts may also stand, as rows of one tensor, gate's first.
std::string gguf_gate_up(const TensorPlace& place);

}  // namespace retort
