// Objectives that pull a student towards a teacher. The loss of a token is
//   weight * T^2 * D(teacher, student at temperature T) + (1 - weight) * cross-entropy with the data,
// summed with the targets' weights. Evaluation (pass.training false) is the cross-entropy alone: a held-out loss means the
// same whatever a model was trained with.
#pragma once
#include <memory>

#include "distill/divergence.h"
#include "distill/teacher_cache.h"
#include "train/objective.h"

namespace retort {

// The teacher stays in memory and sees each forest too. Columns beyond `vocabulary` (padding) are cut off on both sides. Nothing
// of the teacher is ever given a gradient.
struct LiveTeacher {
  std::shared_ptr<const Model> model;
  at::ScalarType compute = at::kFloat;
  int64_t vocabulary = 0;
};
Objective live_distillation(const DistillSpec& spec, LiveTeacher teacher);

// From the cache. forward_kl is linear in the teacher's probabilities, so the kept sample makes it unbiased; its value may be
// below zero at single tokens. The others, and forward_kl over a cache without draws, compare head and rest: the divergence of the two
// distributions over (head tokens, all other tokens together), which is never negative, at most the full divergence, and equal to it
// when the head is the whole vocabulary. A context that the cache lacks is an error.
Objective cached_distillation(const DistillSpec& spec, std::shared_ptr<const TeacherCache> cache);

// What the latter does at one row, as a function of log q at row.ids (student at the temperature): nats without T^2 or weights,
// and the gradient in logits / T as softmax * q + corrections.
struct RowCost {
  double nats = 0, softmax = 0;
};
RowCost sampled_forward_kl(const SparseRow& row, std::span<const float> log_q, std::span<float> corrections);
RowCost bucket_divergence(const Divergence& divergence, double parameter, const SparseRow& row, std::span<const float> log_q, std::span<float> corrections);

// RecipeError that names the first token that differs: distillation compares probabilities token by token.
void require_same_tokens(const Tokenizer& teacher, const Tokenizer& student);

}  // namespace retort
