#include "train/objective.h"

#include "forest/later_rows.h"

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

namespace {

// `hidden`: of all rows.
LossSum token_after_the_next(const Model& model, const Tensor& hidden, const LaterRows& later,
                             const Pass& pass) {
  auto own = make_pass(later.forest, pass.compute, pass.tokens.device());
  own.training = pass.training;
  own.gradients = pass.gradients;
  own.dropout_key = ~pass.dropout_key;  // the head is asked in both passes
  ask_for_targets(later.forest, own);
  const auto before =
      at::tensor(std::vector<int64_t>(later.before.begin(), later.before.end()), at::TensorOptions(at::kLong))
          .to(hidden.device());
  const auto states = model.mtp_states(hidden.index_select(0, before), own);
  return cross_entropy(states, asked_targets(later.forest, own), model.head, own);
}

}  // namespace

Objective two_token_objective(double weight) {
  if (weight == 0) return next_token_objective();
  // Attention of the layer behind the last reads all rows.
  return {Objective::Ask(),
          [weight](const Model& model, const Tensor& hidden, const Forest& forest, const Pass& pass) {
            auto loss = cross_entropy(hidden, asked_targets(forest, pass), model.head, pass);
            const auto later = later_rows(forest);
            if (!later.forest.targets.empty())
              loss.nats = loss.nats + weight * token_after_the_next(model, hidden, later, pass).nats;
            return loss;
          }};
}

}  // namespace retort
