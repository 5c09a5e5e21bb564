// How a model with experts uses them: of each sparse layer, who is chosen and how sure the router is.
#pragma once
#include "eval/subject.h"

namespace retort {

struct ExpertUse {
  int64_t layer = 0, experts = 0, each = 0;  // experts, and those that a token is sent to
  int64_t tokens = 0;
  double largest = 0, smallest = 0;  // shares of the choices: of the busiest expert and of the least busy
  int64_t idle = 0;                  // experts that no token was sent to
  double entropy = 0;  // of the router's distribution, mean over tokens, as a share of log(experts)
  std::optional<double> bias_from, bias_to;  // of what is added to the scores, where there is such a bias

  template <class Visitor> void fields(Visitor& field) {
    field("layer", layer), field("experts", experts), field("each", each), field("tokens", tokens);
    field("largest", largest), field("smallest", smallest), field("idle", idle), field("entropy", entropy);
    field.rare("bias_from", bias_from), field.rare("bias_to", bias_to);
  }
};

// Over all tokens that these samples predict from; empty for a model without experts. A sigmoid's scores are
// divided by their sum for the entropy. Every token meets the experts that were chosen for it: none is ever
// dropped.
std::vector<ExpertUse> measure_expert_use(const Subject& subject, const std::vector<Sample>& samples);

}  // namespace retort
