// The vocabulary projection fused with what is asked of it, over the asked rows alone and in chunks: nobody
// ever holds logits for all rows.
#pragma once
#include <span>

#include "ops/linear.h"

namespace retort {

struct Head {
  Linear linear;        // [V,E]; shares its Weight with the embedding when tied
  double soft_cap = 0;  // Gemma 2: cap * tanh(z / cap); 0 = none
};

// A sum in nats and the weight it was summed over; the loop divides once per optimizer step.
struct LossSum {
  Tensor nats;  // scalar fp32 with a graph
  double weight = 0;
};

// Weighted cross-entropy over `targets`: sum_i w_i * -log p(label_i | hidden[row_i]). hidden [N,E].
LossSum cross_entropy(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                      const Pass& pass);

// log p(label | hidden[row]) for each target, fp32 [targets], in the CPU's memory; no gradient.
Tensor target_log_probabilities(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                                const Pass& pass);

// Whether each target's label is the arg max (teacher-forced accuracy), with log-probabilities from the same
// pass; in the CPU's memory.
struct Scores {
  Tensor log_probabilities;  // fp32 [targets]
  Tensor argmax;             // int64 [targets]
};
Scores score_targets(const Tensor& hidden, std::span<const Target> targets, const Head& head,
                     const Pass& pass);

// Logits of the given rows, fp32 [rows,V] after the soft cap, in the CPU's memory; for generation, few rows.
Tensor logits(const Tensor& hidden, std::span<const int32_t> rows, const Head& head, const Pass& pass);

}  // namespace retort
