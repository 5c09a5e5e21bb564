// Attention of a token forest, block by block: queries of a segment over the keys on its path from the root.
// Memory is linear in N; grouped queries (arXiv:2305.13245), sliding windows, soft caps; softmax in fp32.
#pragma once
#include "ops/pass.h"

namespace retort {

struct AttendRule {
  double scale = 0;     // 0 = head_dim^-1/2
  double soft_cap = 0;  // Gemma 2: cap * tanh(score / cap) before the mask; 0 = none
  int64_t window = 0;   // a query at t sees keys s with t - s < window; 0 = all
  int64_t layer = 0;    // which layer's rows of pass.cache
};

// q [N,H,D], k [N,K,D] and v [N,K,V] -> [N,H*V]. With pass.cache, k and v are first written to rows
// pass.cache_rows of the cache, whose rows the blocks' key ranges then name (and there is no gradient);
// a cache without values holds them as the first V numbers of the keys. Saves
// q, k, v and one number a query and head.
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, const AttendRule& rule, const Pass& pass);

}  // namespace retort
