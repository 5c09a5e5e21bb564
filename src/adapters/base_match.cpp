#include "adapters/base_match.h"

#include <algorithm>
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
  for (const auto* layer : model.linears())
    if (layer->adapter) all.emplace_back(layer, &*layer->adapter);
  return all;
}

}  // namespace retort
