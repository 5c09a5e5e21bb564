#include "ops/pass.h"

namespace retort {
namespace {

Tensor ids(const std::vector<int32_t>& values) {
  auto tensor = at::empty({static_cast<int64_t>(values.size())}, at::TensorOptions(at::kLong));
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<int64_t>());
  return tensor;
}

}  // namespace

Pass make_pass(const Forest& forest, at::ScalarType compute, at::Device device) {
  Pass pass;
  pass.tokens = ids(forest.tokens).to(device);
  pass.positions = ids(forest.positions);
  pass.blocks = attend_blocks(forest);
  pass.compute = compute;
  return pass;
}

bool ask_for(Pass& pass, const std::vector<int32_t>& rows) {
  if (static_cast<int64_t>(rows.size()) * 10 > pass.size() * 9)
    return false;  // copying rows costs something too
  pass.rows = ids(rows);
  return true;
}

KvType kv_type(const std::string& name) {
  if (name == "f32") return KvType::f32;
  if (name == "bf16") return KvType::bf16;
  return name == "int8" ? KvType::int8 : KvType::as_computed;
}

KvCache larger_cache(const KvCache& from, int64_t rows_kept, int64_t capacity, const CacheFormat& format) {
  const auto& shape = format.shape;
  KvCache cache;
  const auto grow = [&](const std::vector<Tensor>& old, std::vector<Tensor>& all, at::IntArrayRef sizes,
                        at::ScalarType scalar) {
    for (int64_t i = 0; i < shape.layers; ++i) {
      auto larger = at::empty(sizes, at::TensorOptions(scalar).device(format.device));
      if (rows_kept > 0)
        larger.narrow(0, 0, rows_kept).copy_(old.at(static_cast<size_t>(i)).narrow(0, 0, rows_kept));
      all.push_back(std::move(larger));
    }
  };
  const auto scalar = format.type == KvType::int8   ? at::kChar
                      : format.type == KvType::bf16 ? at::kBFloat16
                      : format.type == KvType::f32  ? at::kFloat
                                                    : format.compute;
  grow(from.keys, cache.keys, {capacity, shape.heads, shape.key_dim}, scalar);
  if (shape.value_dim > 0) grow(from.values, cache.values, {capacity, shape.heads, shape.value_dim}, scalar);
  if (shape.index_dim > 0) grow(from.index_keys, cache.index_keys, {capacity, 1, shape.index_dim}, scalar);
  if (format.type != KvType::int8) return cache;
  grow(from.key_scales, cache.key_scales, {capacity, shape.heads}, at::kFloat);
  if (shape.value_dim > 0) grow(from.value_scales, cache.value_scales, {capacity, shape.heads}, at::kFloat);
  if (shape.index_dim > 0) grow(from.index_scales, cache.index_scales, {capacity, 1}, at::kFloat);
  return cache;
}

}  // namespace retort
