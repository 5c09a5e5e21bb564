// Objectives that pull a student towards a teacher. The loss of a token is
//   weight * T^2 * D(teacher, student at temperature T) + (1 - weight) * cross-entropy with the data,
// summed with the targets' weights. Evaluation (pass.training false) is the cross-entropy alone: a held-out
// loss means the same whatever a model was trained with.
#pragma once
#include <functional>
#include <memory>
#include <optional>

#include "distill/distill_spec.h"
#include "distill/divergence.h"
#include "distill/features.h"
#include "teacher/teacher_cache.h"
#include "train/objective.h"

namespace retort {

// The teacher stays in memory and sees each forest too. Columns beyond `vocabulary` (padding) are cut off on
// both sides. Nothing of the teacher is ever given a gradient. `features` may be absent.
struct LiveTeacher {
  std::shared_ptr<const Model> model;
  at::ScalarType compute = at::kFloat;
  int64_t vocabulary = 0;
  std::shared_ptr<const Features> features = nullptr;
};
Objective live_distillation(const DistillSpec& spec, LiveTeacher teacher);

// What a teacher was kept to have said, by the student's contexts and in the student's ids.
struct KeptRows {
  std::function<std::optional<SparseRow>(Context context)>
      find;  // nullopt: the teacher says nothing there, the data alone teaches
  int64_t vocabulary = 0;
  bool sampled = true;  // the rows have draws
};
// forward_kl is linear in the teacher's probabilities, so the kept sample makes it unbiased; its value may be
// below zero at single tokens. The others, and forward_kl over a cache without draws, compare head and rest:
// the divergence of the two distributions over (head tokens, all other tokens together), which is never
// negative, at most the full divergence, and equal to it when the head is the whole vocabulary.
Objective kept_distillation(const DistillSpec& spec, KeptRows rows);
// The same from a cache over the student's tokens; a context that it lacks is an error.
Objective cached_distillation(const DistillSpec& spec, std::shared_ptr<const TeacherCache> cache);

// What the latter does at one row, as a function of log q at row.ids (student at the temperature): nats
// without T^2 or weights, and the gradient in logits / T as softmax * q + corrections.
struct RowCost {
  double nats = 0, softmax = 0;
};
RowCost sampled_forward_kl(const SparseRow& row, std::span<const float> log_q, std::span<float> corrections);
// Total variation over (head tokens, everything else), 0 to 1: what distill.select compares.
double disagreement(const SparseRow& row, std::span<const float> log_q);
RowCost bucket_divergence(const Divergence& divergence, double parameter, const SparseRow& row,
                          std::span<const float> log_q, std::span<float> corrections);

// RecipeError that names the first token that differs: where probabilities are compared token by token.
void require_same_tokens(const Tokenizer& teacher, const Tokenizer& student);

}  // namespace retort
