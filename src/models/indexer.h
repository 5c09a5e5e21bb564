// The lightning indexer of DeepSeek V3.2 (arXiv:2512.02556, section 2.1): which tokens a token attends to.
// Small heads of its own, with one key a token for all of them.
#pragma once
#include "models/layers.h"
#include "ops/choose_keys.h"

namespace retort {

// J heads of width D, of which the front is rotated, half-split whatever the attention's own layout is.
struct Indexer {
  Linear wq_b;          // [J D, Q], from the queries' narrow vector
  Linear wk;            // [D, E]
  Linear weights_proj;  // [J, E]
  Tensor k_norm_weight, k_norm_bias;
  IndexerConfig config;
  int64_t layer = 0;

  Indexer(const Parts& parts, int64_t layer);
  // The keys for the tokens of a pass; nullptr: every token attends to all that it sees. `narrow` [N,Q]. The
  // cache, if there is one, gets the tokens' index keys.
  std::shared_ptr<const ChosenKeys> choose(const Tensor& x, const Tensor& narrow,
                                           const std::shared_ptr<const RotaryTable>& table,
                                           const Pass& pass) const;
  template <class Visit> void linears(Visit&& visit) { visit(wq_b), visit(wk), visit(weights_proj); }
  template <class Visit> void vectors(Visit&& visit) {
    TensorPlace place{layer, Role::index_k_norm};
    visit(place, k_norm_weight);
    place.bias = true;
    visit(place, k_norm_bias);
  }
};

}  // namespace retort
