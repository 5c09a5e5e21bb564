#include "ops/recompute.h"

#include <torch/csrc/autograd/autograd.h>

#include "ops/differentiable.h"

namespace retort {

Tensor recompute(const Tensor& x, const std::vector<Tensor>& leaves,
                 std::function<Tensor(const Tensor& x, Wanted wanted)> part) {
  Tensors inputs{x};
  inputs.insert(inputs.end(), leaves.begin(), leaves.end());
  return differentiable({"recompute"}, inputs, [&](bool) -> Computed {
    auto y = part(x.detach(), Wanted::value);
    return {y, [leaves, part, saved = x.detach(), wants_x = x.requires_grad()](const Tensor& dy) -> Tensors {
              const at::AutoGradMode with_graph(true);
              Tensors wanted;
              auto input = saved.detach();
              if (wants_x) wanted.push_back(input.requires_grad_());
              wanted.insert(wanted.end(), leaves.begin(), leaves.end());
              const auto again = part(input, Wanted::gradients);
              auto gradients = torch::autograd::grad({again}, wanted, {dy}, std::nullopt, false, true);
              if (!wants_x) gradients.insert(gradients.begin(), Tensor());
              return gradients;
            }};
  });
}

}  // namespace retort
