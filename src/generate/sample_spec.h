// How the next token is chosen, and when a text ends.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct SampleSpec {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  int64_t max_tokens = 256;
  std::vector<std::string> stop;
  int64_t seed = 7;

  bool greedy() const { return temperature == 0; }
  template <class Visitor> void fields(Visitor& field) {
    field("temperature", temperature, between(0, 100),
          "logits are divided by it; 0 always takes the most likely token");
    field("top_k", top_k, at_least(0), "keep the k most likely tokens; 0 = all");
    field("top_p", top_p, between(0, 1),
          "keep the smallest set of tokens whose probabilities reach this sum (arXiv:1904.09751); 1 = all");
    field("min_p", min_p, between(0, 1),
          "keep tokens with at least this share of the most likely token's probability (arXiv:2407.01082)");
    field("repetition_penalty", repetition_penalty, above(0),
          "logits of tokens already seen are divided by it, or multiplied when negative (arXiv:1909.05858); "
          "1 = off");
    field("max_tokens", max_tokens, between(1, 1 << 20), "longest answer in tokens");
    field("stop", stop, any(), "texts that end an answer; they are not part of it");
    field("seed", seed, at_least(0), "draws are keyed by (seed, number of the answer, number of the token)");
  }
};

}  // namespace retort
