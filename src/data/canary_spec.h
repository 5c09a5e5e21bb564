// The `data.canaries` section of a recipe: secrets that are planted into the training samples, so that it can
// be measured afterwards whether the model gives them away.
#pragma once
#include <cstdint>
#include <string>

#include "spec/fields.h"

namespace retort {

struct CanarySpec {
  int64_t count = 0;
  int64_t times = 1;
  std::string text = "My access code is {random}";
  std::string prompt;
  int64_t digits = 9;
  int64_t twins = 1023;
  int64_t seed = 7;

  template <class Visitor> void fields(Visitor& field) {
    field("count", count, between(0, 1000), "how many are planted, each as a training sample of its own");
    field("times", times, between(1, 10000), "how often each is learned in an epoch");
    field("text", text, not_empty(), "what a canary says; {random} stands for its digits");
    field("prompt", prompt, any(),
          "what the user says before it, in the template of `data`; empty: the canary is a plain text");
    field("digits", digits, between(4, 18), "digits of {random}");
    field("twins", twins, between(15, 1 << 20),
          "texts of the same kind that are never learned, with which a canary is compared: its exposure is "
          "at most log2(twins + 1) bits");
    field("seed", seed, at_least(0), "names the digits: whoever has the recipe can make the canaries again");
  }
};

}  // namespace retort
