#include "train/objective.h"

namespace retort {

Objective next_token_objective() {
  return [](const Model& model, const Forest& forest, const Pass& pass) {
    return cross_entropy(model.hidden(pass), forest.targets, model.head, pass);
  };
}

}  // namespace retort
