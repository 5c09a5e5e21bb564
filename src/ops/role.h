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
  router,       // chooses a token's experts
  router_bias,  // added to its scores for the choice alone
  shared_gate,  // of the network beside the experts that sees every token
  shared_up,
  shared_down,
  q_a,  // latent attention: hidden to the queries' narrow vector, its norm, and from there to the heads
  q_a_norm,
  q_b,
  kv_a,  // the same for keys and values; rows of the key that all heads share stand behind it
  kv_a_norm,
  kv_b,
  index_q,  // the indexer of sparse attention: queries, the one key, its norm, the heads' weights
  index_k,
  index_k_norm,
  index_weights,
  mtp_token_norm,   // the layer behind the last, which predicts the token after the next: over the next
  mtp_hidden_norm,  // token's embedding, over the hidden state in front of it, what joins the two, and in
  mtp_join,         // front of the head
  mtp_norm
};

// Nothing that a loss says reaches these: they decide discrete choices alone, and stay as they are.
constexpr bool chooses_only(Role role) {
  return role == Role::router_bias || role == Role::index_q || role == Role::index_k ||
         role == Role::index_k_norm || role == Role::index_weights;
}

struct TensorPlace {
  int64_t layer = -1;  // -1: outside of the layers
  Role role = Role::none;
  int64_t expert = -1;  // -1: of none
  bool bias = false;    // of the linear layer that stands here, instead of its matrix
  auto operator<=>(const TensorPlace&) const = default;
};

}  // namespace retort
