#include "ops/pass.h"

namespace retort {

Pass make_pass(const Forest& forest, at::ScalarType compute) {
  Pass pass;
  const auto ids = [](const std::vector<int32_t>& values) {
    auto tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(at::kLong));
    std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
    return tensor;
  };
  pass.tokens = ids(forest.tokens);
  pass.positions = ids(forest.positions);
  pass.blocks = attend_blocks(forest);
  pass.compute = compute;
  return pass;
}

}  // namespace retort
