// The lightning indexer of DeepSeek V3.2 (arXiv:2512.02556, section 2.1): which tokens a token attends to.
// Small heads of its own, with one key a token for all of them.
#pragma once
#include "models/layers.h"
#include "ops/index_loss.h"

namespace retort {

// What attention asks of the indexer for the tokens of a pass.
struct IndexChoice {
  std::shared_ptr<const ChosenKeys> chosen;  // nullptr: every token attends to all that it sees
  Tensor q, k, weights;                      // with their graph where the indexer learns, else undefined
  bool learns() const { return q.defined() && q.requires_grad(); }
};

// J heads of width D, of which the front is rotated, half-split whatever the attention's own layout is.
struct Indexer {
  Linear wq_b;          // [J D, Q], from the queries' narrow vector
  Linear wk;            // [D, E]
  Linear weights_proj;  // [J, E]
  Tensor k_norm_weight, k_norm_bias;
  std::shared_ptr<DeviceCopies> copies = std::make_shared<DeviceCopies>();  // of these two
  IndexerConfig config;
  int64_t layer = 0;
  std::shared_ptr<IndexLearned> learned = std::make_shared<IndexLearned>();

  Indexer(const Parts& parts, int64_t layer);
  // `narrow` [N,Q]. Nothing of the graph behind x and narrow is reached. The cache, if there is one, gets the
  // tokens' index keys. `alone`: the indexer is all that is trained of its layer's attention, which then is
  // dense in training passes: section 2.1.1's warm-up.
  IndexChoice choose(const Tensor& x, const Tensor& narrow, const std::shared_ptr<const RotaryTable>& table,
                     bool alone, const Pass& pass) const;
  // What attention [N, *] came to, and with it the loss of a choice that learns: `attended` is what it looked
  // at.
  Tensor teach(const Tensor& result, const IndexChoice& choice, const Attended& attended,
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
