// What a tensor does in a model and where it stands there: fields, so that nobody reads them off its name.
#pragma once
#include <compare>
#include <cstdint>

namespace retort {

enum class Role {
  none,  // nobody said: whoever has to know refuses it
  embedding,
  head,
  final_norm,
  attention_norm,  // over the hidden width: in front of attention and behind it, of the feed-forward part
                   // alike
  after_attention_norm,
  mlp_norm,
  after_mlp_norm,
  q,
  k,
  v,
  qkv,  // the three as rows of one matrix
  o,
  q_norm,  // over one head
  k_norm,
  gate,
  up,
  gate_up,  // the two as rows of one matrix
  down,
  router  // chooses a token's experts
};

struct TensorPlace {
  int64_t layer = -1;  // -1: outside of the layers
  Role role = Role::none;
  int64_t expert = -1;  // -1: of none
  bool bias = false;    // of the linear layer that stands here, instead of its matrix
  auto operator<=>(const TensorPlace&) const = default;
};

}  // namespace retort
