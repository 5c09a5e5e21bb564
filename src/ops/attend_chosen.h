// Attention of each query to the keys that were chosen for it alone: their rows are gathered, so that what it
// costs grows with the number of chosen keys, however long the text is.
#pragma once
#include "ops/attend.h"
#include "ops/choose_keys.h"

namespace retort {

// q [N,H,D], k [N,K,D] and v [N,K,V] -> [N,H*V], as attend(); values without a tensor are the first
// `value_width` numbers of the keys, as latent attention in its absorbed form has them. With pass.cache, keys
// are first written to its rows, and there is no gradient. Saves q, k, v, the result, and one number a query
// and head.
Tensor attend_chosen(const Tensor& q, const Tensor& k, const Tensor& v, int64_t value_width,
                     const std::shared_ptr<const ChosenKeys>& chosen, const AttendRule& rule,
                     const Pass& pass);

}  // namespace retort
