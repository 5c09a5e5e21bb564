// Universal logit distillation (ULD, arXiv:2402.12030), the simple baseline for teachers with other tokens:
// the nth token of an answer is compared with the teacher's nth, by their sorted probabilities alone: sum_i
// |p_(i) - q_(i)|. What a token says is not used. From a cache the teacher's head is sorted and the rest is
// one cell on both sides: at most the whole distance, and equal to it when the head is the whole vocabulary.
#pragma once
#include <unordered_map>

#include "distill/objective.h"

namespace retort {

// Supervised contexts of `ours` to those of `theirs`: the same record (by id), the same run, the same number
// within the run.
std::unordered_map<Context, Context> paired_in_order(const Samples& ours, const Samples& theirs);

// `rows.find` gives the teacher's row, its ids unread. At the temperature, times T^2 like every divergence.
Objective uld_distillation(const DistillSpec& spec, KeptRows rows);

}  // namespace retort
