#include "ops/pass.h"

namespace retort {
namespace {

Tensor ids(const std::vector<int32_t>& values) {
  auto tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(at::kLong));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

}  // namespace

Pass make_pass(const Forest& forest, at::ScalarType compute) {
  Pass pass;
  pass.tokens = ids(forest.tokens);
  pass.positions = ids(forest.positions);
  pass.blocks = attend_blocks(forest);
  pass.compute = compute;
  return pass;
}

bool ask_for(Pass& pass, const std::vector<int32_t>& rows) {
  if (static_cast<int64_t>(rows.size()) * 10 > pass.size() * 9) return false;   // copying rows costs something too
  pass.rows = ids(rows);
  return true;
}

}  // namespace retort
