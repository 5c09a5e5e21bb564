// On-policy distillation (GKD, arXiv:2306.13649) in rounds: the student answers prompts of the data, the
// teacher grades every token of all answers in one pass into a cache, the student trains on that, and again.
// The teacher's weights are read once a round, not once a step.
#pragma once
#include <functional>

#include "distill/distill_spec.h"
#include "generate/generate.h"
#include "teacher/teach.h"
#include "teacher/teacher_spec.h"
#include "train/train.h"

namespace retort {

struct OnPolicyJob {
  TrainJob train;  // its objective is not used; the folder gets round-00, round-01, ...
  const Tokenizer& tokenizer;
  StopRules stops;
  const Teacher& teacher;
  TeacherIdentity identity;
};

struct OnPolicyRound {
  int64_t round = 0, answers = 0, answer_tokens = 0, positions = 0;
  double seconds_answering = 0, seconds_grading = 0, seconds_training = 0;
  uint64_t teacher_bytes = 0;  // of weights that grading read: once a round
};

struct OnPolicyResult {
  TrainResult train;  // sums over rounds; losses of the last
  std::vector<OnPolicyRound> rounds;
};

// How rounds are made; distill.on_policy is set.
struct OnPolicySpecs {
  const TrainSpec& train;
  const DistillSpec& distill;
  const TeacherSpec& teacher;
};

// Continues from the last finished round, and inside a round from its last checkpoint. Ends as train() does:
// the trainables hold the final weights, and the folder has them.
OnPolicyResult train_on_policy(const OnPolicySpecs& specs, const OnPolicyJob& job,
                               const TrainWatch& watch = {},
                               const std::function<void(const OnPolicyRound&)>& on_round = nullptr);

// RecipeError where train_on_policy() would refuse to go on with the rounds that are there; nothing is
// changed.
void require_resumable_rounds(const TrainSpec& spec, const TrainJob& job);

// The samples of round.round: prompts drawn by (seed, its number), each with the data's answer or, for the
// rest, the student's own, which are counted in `round`. A sample's prompt is what stands before its first
// supervised token.
std::vector<Sample> on_policy_samples(const OnPolicySpec& spec, const OnPolicyJob& job, OnPolicyRound& round,
                                      uint64_t seed, int64_t threads);

}  // namespace retort
