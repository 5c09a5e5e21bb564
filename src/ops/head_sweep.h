// One pass over the vocabulary for rows of hidden states: a few hundred columns of logits at a time, a
// running softmax (arXiv:1805.02867), and what is asked of it. The head is attention with one query a row and
// keys = values = rows of the matrix.
#pragma once
#include <span>
#include <vector>

#include "ops/head.h"

namespace retort {

// Labels whose logits are wanted: labels[offsets[r]] .. labels[offsets[r + 1] - 1] of row r.
struct AskedLabels {
  std::vector<size_t> offsets = {0};
  std::vector<int32_t> labels;
};

struct Swept {
  std::vector<float> log_sum;  // [R]: log of the sum of exp(z) over the vocabulary, z after the soft cap
  std::vector<float> logits;   // of the asked labels, in their order
  std::vector<int32_t> best;   // [R]: the first of the largest logits
  Tensor expected;  // fp32 [R,E], with `gradient`: sum over the vocabulary of p_v dz_v/dx, so W_v times 1 -
                    // (z_v / cap)^2 with a cap
};

// A head without bias and adapter. With the weight's `int8_scales` (int8_row_scales(); or undefined),
// `expected` comes from 8-bit integers; logits never do.
struct SweptHead {
  const Weight& weight;
  Tensor int8_scales;
  double soft_cap = 0;
};

// x [R,E], fp32 or bf16. Rows, or with few of them parts of the vocabulary, go to inner threads.
Swept sweep_head(const Tensor& x, const AskedLabels& asked, const SweptHead& head, bool gradient);

}  // namespace retort
