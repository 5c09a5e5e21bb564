#include "adapters/base_match.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace retort {
namespace {

constexpr int64_t kRowsAtOnce = 1024;

}  // namespace

double base_product(const LayerAdapters& adapters) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& [layer, adapter] : adapters) {
    const auto transposed = adapter->a.detach().t();  // [in, rank]
    for (int64_t first = 0; first < layer->weight.rows; first += kRowsAtOnce) {
      const auto count = std::min(kRowsAtOnce, layer->weight.rows - first);
      const auto seen =
          at::mm(widen_rows(base_matrix(*layer).weight, first, count, at::kFloat).detach(), transposed);
      sum += adapter->scaling *
             (seen.to(at::kDouble) * adapter->b.detach().narrow(0, first, count).to(at::kDouble))
                 .sum()
                 .item<double>();
    }
  }
  return sum;
}

double update_square(const LayerAdapters& adapters) {
  const at::NoGradGuard no_grad;
  double sum = 0;
  for (const auto& [layer, adapter] : adapters) {
    const auto a = adapter->a.detach().to(at::kDouble), b = adapter->b.detach().to(at::kDouble);
    sum += adapter->scaling * adapter->scaling *
           (at::mm(a, a.t()) * at::mm(b.t(), b)).sum().item<double>();  // the trace of A A^T B^T B
  }
  return sum;
}

double merged_share(const LayerAdapters& adapters, double product_then, WeightType coarser) {
  const auto size = update_square(adapters);
  if (!(size > 0)) return 0;
  double square = 0, count = 0;
  for (const auto& [layer, adapter] : adapters) {
    const auto some = std::min(kRowsAtOnce, layer->weight.rows);  // enough for a mean
    const auto rows = widen_rows(layer->weight, 0, some, at::kFloat).detach();
    square += rows.square().sum(at::kDouble).item<double>();
    count += static_cast<double>(rows.numel());
  }
  // b bits a weight leave an error of about 2^-b of the weights' size, which has no direction: along the
  // update it is as large as one weight's error. Six times that is no chance.
  constexpr uint64_t kColumns = 256;
  const auto bits = 8.0 * static_cast<double>(row_bytes(coarser, kColumns).value_or(kColumns)) / kColumns;
  const auto chance = 6 * 2 * std::exp2(-bits) * std::sqrt(square / count / size);
  return (base_product(adapters) - product_then) / size - chance;
}

WeightType base_type(const LayerAdapters& adapters) {
  std::map<WeightType, int64_t> counts;
  for (const auto& [layer, adapter] : adapters)
    counts[layer->weight.type] += layer->weight.rows * layer->weight.columns;
  if (counts.empty()) return WeightType::f32;
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& one, const auto& other) { return one.second < other.second; })
      ->first;
}

LayerAdapters adapters_on(const Model& model) {
  LayerAdapters all;
  for (const auto* layer : model.matrices())
    if (layer->adapter) all.emplace_back(layer, &*layer->adapter);
  return all;
}

}  // namespace retort
