// A model and the type that it computes in: one side of a comparison.
#pragma once
#include "models/model.h"

namespace retort {

struct ComputedModel {
  const Model& model;
  at::ScalarType compute = at::kFloat;
};

}  // namespace retort
