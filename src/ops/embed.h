// Token embedding: rows of a weight of any format.
#pragma once
#include "ops/pass.h"
#include "ops/weight.h"

namespace retort {

// -> [N,E] of pass.compute's type: row tokens[n] times `scale` (rounded to the compute type first, as Gemma's
// reference does). In training, pass.embedding_noise adds NEFTune's uniform noise (arXiv:2310.05914): alpha /
// sqrt(L E) times draws in [-1, 1), L the longest text of the pass.
Tensor embed(const Weight& embedding, const Pass& pass, double scale = 1);

}  // namespace retort
