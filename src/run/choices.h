// What rank 0 measured of its machine, which then holds for all ranks: another one, or another measurement,
// might choose otherwise, and the ranks would compute different bits.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "base/peers.h"
#include "ops/use_kernel.h"
#include "recipe/recipe.h"

namespace retort {

// Rank 0 says the type of computing, the kernel of products and the cores that it may use.
void say_choices(Peers& peers, at::ScalarType compute);

// They hold at another rank as long as this lives. RecipeError where this machine lacks the kernel; RunEnded
// (run/word.h) where rank 0 has ended the run.
class HeardChoices {
 public:
  explicit HeardChoices(Peers& peers);
  at::ScalarType compute() const { return compute_; }
  void apply(Recipe& recipe) const;  // cores, where it leaves their number to the machine

 private:
  at::ScalarType compute_ = at::kFloat;
  int64_t cores_ = 1;
  std::optional<UseKernel> kernel_;
};

}  // namespace retort
