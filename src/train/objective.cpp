#include "train/objective.h"

namespace retort {

Objective next_token_objective() {
  return [](const Model& model, const Forest& forest, const Pass& pass) {
    const auto asked = asked_rows(forest);  // all that the end of the last layer and the head are needed for
    auto some = pass;
    if (!ask_for(some, asked.rows))
      return cross_entropy(model.hidden(pass), forest.targets, model.head, pass);
    return cross_entropy(model.hidden(some), asked.targets, model.head, some);
  };
}

}  // namespace retort
