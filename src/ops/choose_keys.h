// Which keys a query attends to where an indexer leaves some out (arXiv:2512.02556, section 2.1): the `top`
// largest of I[t,s] = sum_j w[t,j] relu(q[t,j] . k[s]) among the keys s that t sees.
#pragma once
#include <memory>

#include "ops/pass.h"

namespace retort {

// Query t attends to rows[first[t]] up to rows[first[t + 1]]: rows of the pass, or of the cache where there
// is one, in the order of their text.
struct ChosenKeys {
  std::vector<int64_t> first;  // [N + 1]
  std::vector<int32_t> rows;
};

// Whether any query of the pass sees more than `top` keys.
bool leaves_keys_out(const Pass& pass, int64_t top);

// The cache's rows of `layer` get keys k [N,1,D], if there is a cache.
void store_index_keys(const Tensor& k, int64_t layer, const Pass& pass);

// q [N,J,D], k [N,1,D] of one type, weights fp32 [N,J]. Of equal keys the earlier is chosen, and what is no
// number is chosen last. No gradient reaches anything.
std::shared_ptr<const ChosenKeys> choose_keys(const Tensor& q, const Tensor& k, const Tensor& weights,
                                              int64_t top, int64_t layer, const Pass& pass);

}  // namespace retort
