// Token embedding: rows of a weight of any format.
#pragma once
#include "ops/pass.h"
#include "ops/weight.h"

namespace retort {

// The gradient of an embedding as its backward knows it: `factor` times one row for each token of a pass. A matrix of it, which the graph asks
// for, is mostly zeros, and where the head is the same matrix the graph adds the two into a third.
struct RowGradient {
  Tensor matrix;   // the leaf that it is of, [V,E]; undefined = no backward has come here
  Tensor tokens;   // int64 [N]
  Tensor rows;     // [N,E]
  double factor = 1;

  void add_to(Tensor& sum) const;   // fp32 [V,E], made of zeros when it is not there
};

// -> [N,E] of pass.compute's type: row tokens[n] times `scale` (rounded to the compute type first, as Gemma's reference
// does). In training, pass.embedding_noise adds NEFTune's uniform noise (arXiv:2310.05914): alpha / sqrt(L E) times draws
// in [-1, 1), L the longest text of the pass.
Tensor embed(const Weight& embedding, const Pass& pass, double scale = 1);

}  // namespace retort
