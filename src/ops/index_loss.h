// What an indexer learns (arXiv:2512.02556, section 2.1): to pay to each token what attention pays to it, all
// its heads together.
#pragma once
#include "ops/choose_keys.h"

namespace retort {

// What attention looks at: q [N,H,W] and k [N,K,W], rotated, whose product is multiplied with `scale`.
struct Attended {
  Tensor q, k;
  double scale = 1;
};

// Sum over the pass's queries of KL(p || softmax(I)), fp32; I is choose_keys()'s of q, k and weights, p the
// mean over heads of attention's probabilities. Over all keys that a query sees, or over `chosen` alone,
// where both sum to 1. Gradients reach the indexer's q, k and weights; memory grows with the longest text,
// not with its square.
Tensor index_loss(const Tensor& q, const Tensor& k, const Tensor& weights, const Attended& attended,
                  const std::shared_ptr<const ChosenKeys>& chosen, const Pass& pass);

// x, whose backward also begins that of `loss`, as if it were added to what the pass's loss sums up.
Tensor with_loss(const Tensor& x, const Tensor& loss);

}  // namespace retort
