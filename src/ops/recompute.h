// Activation recomputation (arXiv:1604.06174): a part of the model keeps only its input and runs again in
// backward.
#pragma once
#include <functional>

#include "ops/pass.h"

namespace retort {

// part(x), differentiable in x and in `leaves` (all trainables that the part uses). The part must be a pure
// function of them: dropout here is, its draws are keyed. In backward it is asked for gradients alone.
Tensor recompute(const Tensor& x, const std::vector<Tensor>& leaves,
                 std::function<Tensor(const Tensor& x, Wanted wanted)> part);

}  // namespace retort
