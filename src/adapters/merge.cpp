#include "adapters/merge.h"

#include "adapters/attach.h"
#include "base/error.h"
#include "base/hash.h"

namespace retort {
namespace {

constexpr int64_t kRowsAtOnce = 1024;

// `stored` and back: what a reader of the file will see.
Tensor rounded(const Tensor& rows, WeightType stored) {
  if (stored == WeightType::f32) return rows;
  if (stored == WeightType::bf16) return rows.to(at::kBFloat16).to(at::kFloat);
  if (stored == WeightType::f16) return rows.to(at::kHalf).to(at::kFloat);
  const auto row = row_bytes(stored, static_cast<uint64_t>(rows.size(1)));
  if (!row) throw std::logic_error("rows do not fit the blocks of " + std::string(type_info(stored).name));
  std::vector<std::byte> blocks(*row * static_cast<uint64_t>(rows.size(0)));
  auto back = at::empty_like(rows);
  quantize_rows(stored, rows.const_data_ptr<float>(), blocks.data(), rows.size(0), rows.size(1));
  dequantize_rows(stored, blocks.data(), back.mutable_data_ptr<float>(), rows.size(0), rows.size(1));
  return back;
}

}  // namespace

namespace {

Tensor with_adapter(const Linear& layer, const Tensor& base, int64_t first, int64_t count) {
  if (!layer.adapter) return base;
  const auto& [a, b, magnitude, scaling, dropout] = *layer.adapter;
  const auto merged = at::addmm(base, b.narrow(0, first, count), a, 1, scaling);
  if (!magnitude.defined()) return merged;
  const auto norms = merged.norm(2, {1});
  const auto size = at::where(norms.eq(0), at::ones_like(norms), magnitude.narrow(0, first, count) / norms);
  return merged * size.unsqueeze(1);  // a row of zeros has no direction and stays
}

}  // namespace

Tensor merged_rows(const Linear& layer, int64_t first, int64_t count) {
  const at::NoGradGuard no_grad;
  const auto base = widen_rows(base_matrix(layer).weight, first, count, at::kFloat);
  auto merged = with_adapter(layer, base, first, count);
  if (!layer.rows) return merged;
  if (merged.is_alias_of(base)) merged = merged.clone();  // perhaps the base's own numbers
  for (int64_t row = 0; row < count; ++row)
    if (const auto trained = layer.rows->find(first + row); trained >= 0)
      merged[row].copy_(layer.rows->values[trained]);
  return merged;
}

double delta_error(const Linear& layer, WeightType stored) {
  if (!layer.adapter && !layer.rows) return 0;
  const at::NoGradGuard no_grad;
  double lost = 0, update = 0;
  for (int64_t first = 0; first < layer.weight.rows; first += kRowsAtOnce) {
    const auto count = std::min(kRowsAtOnce, layer.weight.rows - first);
    const auto merged = merged_rows(layer, first, count).contiguous();
    lost += (rounded(merged, stored) - merged).to(at::kDouble).square().sum().item<double>();
    update += (merged - widen_rows(base_matrix(layer).weight, first, count, at::kFloat))
                  .to(at::kDouble)
                  .square()
                  .sum()
                  .item<double>();
  }
  return update > 0 ? std::sqrt(lost / update) : 0;
}

void merge_adapters(LoadedModel& loaded, at::ScalarType stored) {
  auto& model = *loaded.model;
  if (!has_adapters(model)) throw RecipeError("merge: the model has no adapter; was it merged already?");
  const at::NoGradGuard no_grad;
  Sha256 hash;
  hash.add("merged ").add(loaded.sha256.get());
  for (auto* layer : model.matrices()) {
    if (!layer->adapter && !layer->rows) continue;
    if (layer == &model.head.linear && model.config.tied_head) {  // of the rows that it shares
      layer->weight = model.embedding.weight;
      layer->rows.reset();
      continue;
    }
    const bool integers =
        layer->source ? base_matrix(*layer).int8_scales.defined() : layer->int8_scales.defined();
    auto merged = at::empty({layer->weight.rows, layer->weight.columns}, at::TensorOptions().dtype(stored));
    for (int64_t first = 0; first < layer->weight.rows; first += kRowsAtOnce) {
      const auto count = std::min(kRowsAtOnce, layer->weight.rows - first);
      const auto rows = merged_rows(*layer, first, count).contiguous();
      hash.add(std::as_bytes(std::span(rows.const_data_ptr<float>(), static_cast<size_t>(rows.numel()))));
      merged.narrow(0, first, count).copy_(rows);
    }
    layer->weight = dense_weight(merged);
    layer->source = nullptr;
    if (integers) layer->int8_scales = int8_row_scales(layer->weight);
    layer->adapter.reset();
    layer->rows.reset();
  }
  loaded.sha256 = hash.hex();
}

}  // namespace retort
