// Route and combine over LibTorch calls: rows are sorted by expert with one look-up, and come back with one
// look-up and one sum, whose order is that of the experts on every device.
#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/device_kernels.h"

namespace retort {
namespace {

constexpr double kNoSum = 1e-20;  // DeepSeek's own guard against a sum of zero

// The `each` largest of a row, in rising order of number: of equal ones the lower number, what is no number
// last.
Tensor largest(const Tensor& values, int64_t each) {
  const auto judged =
      at::nan_to_num(values, -std::numeric_limits<double>::infinity(),
                     std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity());
  const auto order = std::get<1>(at::sort(judged, /*stable=*/true, /*dim=*/1, /*descending=*/true));
  return std::get<0>(order.narrow(1, 0, each).sort(1));
}

// Scores with the bias, and without the experts of groups that are not among the best.
Tensor judged(const Tensor& scores, const RouteRule& rule) {
  constexpr auto kOut = -std::numeric_limits<float>::infinity();
  const auto all = rule.bias.defined()
                       ? scores + brought(rule.bias, scores.device(), rule.bias.scalar_type(), rule.copies)
                       : scores;
  if (rule.groups == rule.groups_per_token) return all;
  const auto n = all.size(0), size = all.size(1) / rule.groups;
  const auto grouped = all.view({n, rule.groups, size});
  const auto sums = size >= rule.judged_by ? std::get<0>(grouped.topk(rule.judged_by, 2)).sum(2)
                                           : at::full({n, rule.groups}, kOut, all.options());
  const auto best = at::zeros({n, rule.groups}, all.options().dtype(at::kBool))
                        .scatter(1, largest(sums, rule.groups_per_token), true);
  return grouped.masked_fill(best.logical_not().unsqueeze(2), kOut).view({n, -1});
}

// Slots in the order of the experts' rows, and each slot's place in that order.
struct Order {
  std::vector<int32_t> slots, places;
  std::vector<int64_t> counts;  // of the experts that have rows
};
Order order_of(const RoutePlan& plan) {
  Order order;
  order.places.resize(plan.expert.size());
  for (const auto& slots : plan.slots) {
    if (!slots.empty()) order.counts.push_back(static_cast<int64_t>(slots.size()));
    for (const auto slot : slots) {
      order.places[static_cast<size_t>(slot)] = static_cast<int32_t>(order.slots.size());
      order.slots.push_back(slot);
    }
  }
  return order;
}

// Rows order.slots of x, by expert. Tensors of their own: they become results of an operation.
std::vector<Tensor> parts_of(const Tensor& x, const Order& order) {
  const auto index = list_on(x, order.slots);
  std::vector<Tensor> parts;
  int64_t first = 0;
  for (const auto count : order.counts) {
    parts.push_back(x.index_select(0, index.narrow(0, first, count)));
    first += count;
  }
  return parts;
}

// All parts below each other; zeros where one is undefined.
Tensor joined(const std::vector<Tensor>& parts, const std::vector<int64_t>& counts,
              const std::vector<int64_t>& row, const at::TensorOptions& options) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < counts.size(); ++i) {
    auto shape = row;
    shape.insert(shape.begin(), counts[i]);
    all.push_back(parts[i].defined() ? parts[i] : at::zeros(shape, options));
  }
  return at::cat(all);
}

}  // namespace

Tensor composed_route(const Tensor& logits, const RouteRule& rule, RoutePlan& plan) {
  const auto scores = rule.sigmoid ? logits.sigmoid() : logits.softmax(1);
  const auto seen = scores.detach();
  const auto chosen = largest(judged(seen, rule), plan.each);
  if (auto sorted = sorted_on(chosen, scores.size(1))) plan.there = *std::move(sorted);
  const auto here = chosen.to(at::kCPU, at::kInt).contiguous();
  plan.expert.assign(here.const_data_ptr<int32_t>(), here.const_data_ptr<int32_t>() + here.numel());
  const auto weights = scores.gather(1, chosen);
  const auto sum = weights.sum(1, true);
  return (rule.renormalise ? weights / (rule.sigmoid ? sum + kNoSum : sum) : weights) * rule.scale;
}

std::vector<Tensor> composed_scatter_rows(const Tensor& x, const RoutePlan& plan) {
  if (auto in_one_pass = rows_to_experts_on(x, plan)) return *std::move(in_one_pass);
  auto order = order_of(plan);
  for (auto& slot : order.slots) slot = static_cast<int32_t>(slot / plan.each);  // its token
  return parts_of(x, order);
}

Tensor composed_gather_sum(const std::vector<Tensor>& parts, const RoutePlan& plan, int64_t width,
                           const at::TensorOptions& options) {
  if (auto in_one_pass = sum_of_experts_on(parts, plan, width)) return *std::move(in_one_pass);
  const auto order = order_of(plan);
  if (order.counts.empty()) return at::zeros({plan.tokens, width}, options);
  const auto all = joined(parts, order.counts, {width}, options);
  return all.index_select(0, list_on(all, order.places))
      .view({plan.tokens, plan.each, width})
      .sum(1, false, at::kFloat)
      .to(options);
}

std::vector<Tensor> composed_scatter_weights(const Tensor& weights, const RoutePlan& plan) {
  const auto order = order_of(plan);
  return parts_of(weights.flatten(), order);
}

Tensor composed_gather_weights(const std::vector<Tensor>& parts, const RoutePlan& plan,
                               const at::TensorOptions& options) {
  const auto order = order_of(plan);
  const auto all = joined(parts, order.counts, {}, options);
  return all.index_select(0, list_on(all, order.places)).view({plan.tokens, plan.each});
}

}  // namespace retort
