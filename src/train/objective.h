// An objective is a function of a model and a forest: a sum in nats and its weight. The loop knows nothing
// else.
#pragma once
#include <functional>

#include "forest/forest.h"
#include "models/model.h"

namespace retort {

// `sample` of each target is the sample's index in TrainJob.samples, or in .held_out during evaluation.
// Called by several threads at once, each with a forest of its own.
class Objective {
 public:
  using Ask = std::function<void(const Forest& forest, Pass& pass)>;
  using Loss = std::function<LossSum(const Model& model, const Tensor& hidden, const Forest& forest,
                                     const Pass& pass)>;
  using Whole = std::function<LossSum(const Model& model, const Forest& forest, const Pass& pass)>;

  Objective() = default;
  // `ask` says which hidden states after the final norm are needed (Pass::rows; nothing: all), `loss` what
  // they cost. Somebody else may compute them, layer by layer for all forests.
  Objective(Ask ask, Loss loss) : ask_(std::move(ask)), loss_(std::move(loss)) {}
  // One that needs more of the model than its last hidden states, and runs it itself.
  template <class F>
  requires std::is_invocable_r_v<LossSum, F, const Model&, const Forest&, const Pass&> Objective(F whole)
      : whole_(std::move(whole)) {}

  bool runs_the_model() const { return whole_ != nullptr; }
  void ask(const Forest& forest, Pass& pass) const {
    if (ask_) ask_(forest, pass);
  }
  LossSum loss(const Model& model, const Tensor& hidden, const Forest& forest, const Pass& pass) const {
    return loss_(model, hidden, forest, pass);
  }
  LossSum operator()(const Model& model, const Forest& forest, const Pass& pass) const;

 private:
  Ask ask_;
  Loss loss_;
  Whole whole_;
};

// Rows that the forest's targets name: all that the end of the last layer and the head are needed for.
void ask_for_targets(const Forest& forest, Pass& pass);
// The targets, by their place among the rows that the pass was asked for.
std::vector<Target> asked_targets(const Forest& forest, const Pass& pass);

// Next-token cross-entropy over the forest's targets.
Objective next_token_objective();

// The same, and `weight` times that of the token after the next, which the layer behind the last predicts
// (Model::mtp_states; arXiv:2412.19437, section 2.2): of each target whose row another row stands in front
// of. A row reads the embedding of its token and the hidden state of the row in front of it, so that what it
// predicts is the token after the next of that row, within one text. The weight of the sum stays that of the
// next tokens.
Objective two_token_objective(double weight);

}  // namespace retort
