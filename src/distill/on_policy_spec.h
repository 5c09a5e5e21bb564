// The `distill.on_policy:` section of a recipe.
#pragma once
#include <cstdint>

#include "spec/fields.h"

namespace retort {

struct OnPolicySpec {
  int64_t rounds = 4;
  int64_t prompts = 64;
  double data_share = 0.5;
  double temperature = 1;
  int64_t max_tokens = 128;

  template <class Visitor> void fields(Visitor& field) {
    field("rounds", rounds, between(1, 1000),
          "times the student answers, the teacher grades all answers in one pass, and the student trains on "
          "them; train.steps are shared out");
    field("prompts", prompts, between(1, 1 << 20), "samples of a round");
    field("data_share", data_share, between(0, 1),
          "of a round's samples: how many keep the answer of the data instead of the student's");
    field("temperature", temperature, between(0, 100),
          "at which the student answers; 0 = its most likely tokens");
    field("max_tokens", max_tokens, between(1, 1 << 20), "longest answer of the student");
  }
};

}  // namespace retort
