// Token embedding: rows of a weight of any format.
#pragma once
#include "ops/linear.h"

namespace retort {

// -> [N,E] of pass.compute's type: row tokens[n] of the matrix [V,E], with its adapter or as it was trained
// alone, times `scale` (rounded to the compute type first, as Gemma's reference does). An adapter is that of
// a linear layer E to V, whose B [V,rank] is looked up and multiplied with A [rank,E]; nothing is dropped and
// DoRA is not computed, as PEFT drops nothing there.
// In training, pass.embedding_noise adds NEFTune's uniform noise (arXiv:2310.05914): alpha /
// sqrt(L E) times draws in [-1, 1), L the longest text of the pass.
Tensor embed(const Linear& table, const Pass& pass, double scale = 1);

}  // namespace retort
