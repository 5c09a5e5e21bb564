// The `distill.own_answers:` section of a recipe.
#pragma once
#include <cstdint>

#include "spec/fields.h"

namespace retort {

struct OwnAnswersSpec {
  int64_t count = 32;
  int64_t max_tokens = 64;

  template <class Visitor> void fields(Visitor& field) {
    field("count", count, between(0, 1 << 20),
          "prompts of held-out samples that each model answers, the first so many; 0 = none, and the table "
          "has no such column");
    field("max_tokens", max_tokens, between(1, 1 << 20),
          "longest answer; the model samples it at temperature 1 with train.seed");
  }
};

}  // namespace retort
