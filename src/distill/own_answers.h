// How near a student is to its teacher where the student leads: after the words that it says itself. Held-out
// samples (quality.h) only show it contexts of the data, which training on the student's own answers (GKD,
// arXiv:2306.13649) is not about.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include "distill/own_answers_spec.h"
#include "distill/quality.h"
#include "generate/generate.h"

namespace retort {

// A prompt with an answer of which every token is supervised. `end` stands for the token that ended the
// answer, a choice like the others.
Sample answered(const std::vector<int32_t>& prompt, const Answer& answer, std::optional<int32_t> end);

struct Answering {
  const Tokenizer& tokenizer;
  StopRules stops;
  GenerateSpec how;
  uint64_t seed =
      7;  // the same for every model that is compared: equal distributions then give equal answers
};
// One sample a prompt, sampled at temperature 1.
std::vector<Sample> own_answers(const OwnAnswersSpec& spec, const ComputedModel& student,
                                const std::vector<std::vector<int32_t>>& prompts, const Answering& answering);

struct OwnAnswers {
  int64_t answers = 0, tokens = 0;
  double reverse_kl =
      0;  // mean KL(student || teacher) in nats over those tokens, each over the whole vocabulary

  template <class Visitor> void fields(Visitor& field) {
    field("answers", answers), field("tokens", tokens), field("reverse_kl", reverse_kl);
  }
};
OwnAnswers measure_own_answers(const ComputedModel& teacher, const ComputedModel& student,
                               const std::vector<Sample>& answers, const Comparing& comparing);

}  // namespace retort
