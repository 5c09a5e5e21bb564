#include "train/objective.h"

namespace retort {

LossSum Objective::operator()(const Model& model, const Forest& forest, const Pass& pass) const {
  if (whole_) return whole_(model, forest, pass);
  auto asked = pass;
  ask(forest, asked);
  return loss_(model, model.hidden(asked), forest, asked);
}

void ask_for_targets(const Forest& forest, Pass& pass) { ask_for(pass, asked_rows(forest).rows); }

std::vector<Target> asked_targets(const Forest& forest, const Pass& pass) {
  return pass.rows.defined() ? asked_rows(forest).targets : forest.targets;
}

Objective next_token_objective() {
  return {ask_for_targets,
          [](const Model& model, const Tensor& hidden, const Forest& forest, const Pass& pass) {
            return cross_entropy(hidden, asked_targets(forest, pass), model.head, pass);
          }};
}

}  // namespace retort
