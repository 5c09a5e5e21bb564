#include "ops/route.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "ops/composed.h"
#include "ops/composed_forms.h"
#include "ops/differentiable.h"
#include "ops/team.h"

namespace retort {
namespace {

// The `each` largest of `count` probabilities, in rising order of number. A NaN is never larger than
// anything.
void choose(const float* probabilities, int64_t count, int64_t each, int32_t* chosen) {
  int64_t held = 0;
  for (int64_t e = 0; e < count; ++e) {
    if (held == each && !(probabilities[e] > probabilities[chosen[held - 1]])) continue;
    int64_t at = held < each ? held++ : held - 1;
    for (; at > 0 && probabilities[e] > probabilities[chosen[at - 1]]; --at) chosen[at] = chosen[at - 1];
    chosen[at] = static_cast<int32_t>(e);
  }
  std::sort(chosen, chosen + each);
}

// Adds the bias and leaves out the experts of groups that are not among the best: what the choice is made by.
void judge(const float* scores, const RouteRule& rule, int64_t experts, float* judged) {
  const auto* bias = rule.bias.defined() ? rule.bias.const_data_ptr<float>() : nullptr;
  for (int64_t e = 0; e < experts; ++e) judged[e] = scores[e] + (bias ? bias[e] : 0.0f);
  if (rule.groups == rule.groups_per_token) return;
  const auto size = experts / rule.groups;
  std::vector<float> sums(static_cast<size_t>(rule.groups));
  for (int64_t g = 0; g < rule.groups; ++g) {
    float first = -std::numeric_limits<float>::infinity(), second = first;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      second = std::max(second, std::min(first, judged[e]));
      first = std::max(first, judged[e]);
    }
    sums[static_cast<size_t>(g)] = rule.judged_by == 1 ? first : first + second;
  }
  std::vector<int32_t> best(static_cast<size_t>(rule.groups_per_token));
  choose(sums.data(), rule.groups, rule.groups_per_token, best.data());
  for (int64_t g = 0; g < rule.groups; ++g)
    if (!std::binary_search(best.begin(), best.end(), static_cast<int32_t>(g)))
      std::fill_n(judged + g * size, size, -std::numeric_limits<float>::infinity());
}

constexpr float kNoSum = 1e-20f;  // DeepSeek's own guard against a sum of zero

// Weights s / (sum s + kNoSum) * scale of the chosen, or s * scale; `chosen` [N,K] are the scores s.
Tensor sigmoid_gradient(const Tensor& dw, const Tensor& chosen, const RouteRule& rule, const RoutePlan& plan,
                        int64_t experts) {
  auto dlogits = at::zeros({plan.tokens, experts}, dw.options());
  const auto *g = dw.const_data_ptr<float>(), *s = chosen.const_data_ptr<float>();
  auto* out = dlogits.mutable_data_ptr<float>();
  for (int64_t n = 0; n < plan.tokens; ++n) {
    float sum = kNoSum, mean = 0;
    for (int64_t slot = n * plan.each; slot < (n + 1) * plan.each; ++slot)
      sum += s[slot], mean += g[slot] * s[slot];
    for (int64_t slot = n * plan.each; slot < (n + 1) * plan.each; ++slot) {
      const auto ds = rule.renormalise ? (g[slot] - mean / sum) / sum : g[slot];
      out[n * experts + plan.expert[static_cast<size_t>(slot)]] = rule.scale * ds * s[slot] * (1 - s[slot]);
    }
  }
  return dlogits;
}

// The choice and its weights by sigmoid scores; fills plan.expert.
Computed route_by_sigmoid(const Tensor& logits, const RouteRule& rule, RoutePlan& plan,
                          const std::shared_ptr<const RoutePlan>& shared) {
  const auto experts = logits.size(1);
  const auto scores = logits.sigmoid();
  auto chosen = at::empty({plan.tokens, plan.each}, logits.options()), weights = at::empty_like(chosen);
  std::vector<float> judged(static_cast<size_t>(experts));
  const auto* s = scores.const_data_ptr<float>();
  auto *kept = chosen.mutable_data_ptr<float>(), *w = weights.mutable_data_ptr<float>();
  for (int64_t n = 0; n < plan.tokens; ++n, s += experts, kept += plan.each, w += plan.each) {
    judge(s, rule, experts, judged.data());
    auto* picked = plan.expert.data() + n * plan.each;
    choose(judged.data(), experts, plan.each, picked);
    float sum = kNoSum;
    for (int64_t j = 0; j < plan.each; ++j) sum += kept[j] = s[picked[j]];
    for (int64_t j = 0; j < plan.each; ++j) w[j] = kept[j] / (rule.renormalise ? sum : 1) * rule.scale;
  }
  return {weights, [=](const Tensor& dw) -> Tensors {
            return {sigmoid_gradient(dw.contiguous(), chosen, rule, *shared, experts)};
          }};
}

// Of weights that are shares s of a softmax over the chosen, or over all, with a gradient g at the chosen:
// dl = s (g - sum s g). `shares` [N,K], or [N,X] where they are of all.
Tensor softmax_gradient(const Tensor& dw, const Tensor& shares, const RouteRule& rule, const RoutePlan& plan,
                        int64_t experts) {
  auto dlogits = at::zeros({plan.tokens, experts}, dw.options());
  const auto *g = dw.const_data_ptr<float>(), *s = shares.const_data_ptr<float>();
  auto* out = dlogits.mutable_data_ptr<float>();
  for (int64_t n = 0; n < plan.tokens; ++n, g += plan.each, s += shares.size(1), out += experts) {
    const auto* picked = plan.expert.data() + n * plan.each;
    const auto share = [&](int64_t j) { return rule.renormalise ? s[j] : s[picked[j]]; };
    float mean = 0;
    for (int64_t j = 0; j < plan.each; ++j) mean += share(j) * (rule.scale * g[j]);
    if (!rule.renormalise)
      for (int64_t e = 0; e < experts; ++e) out[e] = -s[e] * mean;
    for (int64_t j = 0; j < plan.each; ++j) out[picked[j]] = share(j) * (rule.scale * g[j] - mean);
  }
  return dlogits;
}

// The choice and its weights by probabilities; fills plan.expert.
Computed route_by_softmax(const Tensor& logits, const RouteRule& rule, RoutePlan& plan,
                          const std::shared_ptr<const RoutePlan>& shared) {
  const auto experts = logits.size(1);
  const auto probabilities = logits.softmax(1);
  auto shares = at::empty({plan.tokens, plan.each}, logits.options());
  std::vector<float> judged(static_cast<size_t>(experts));
  const auto* p = probabilities.const_data_ptr<float>();
  auto* w = shares.mutable_data_ptr<float>();
  for (int64_t n = 0; n < plan.tokens; ++n, p += experts, w += plan.each) {
    judge(p, rule, experts, judged.data());
    auto* picked = plan.expert.data() + n * plan.each;
    choose(judged.data(), experts, plan.each, picked);
    float sum = 0;
    for (int64_t j = 0; j < plan.each; ++j) sum += w[j] = p[picked[j]];
    if (rule.renormalise)
      for (int64_t j = 0; j < plan.each; ++j) w[j] /= sum;
  }
  const auto weights = rule.scale == 1 ? shares : shares * rule.scale;
  const auto saved = rule.renormalise ? shares : probabilities;
  return {weights, [=](const Tensor& dw) -> Tensors {
            return {softmax_gradient(dw.contiguous(), saved, rule, *shared, experts)};
          }};
}

std::vector<int64_t> busy_experts(const RoutePlan& plan) {
  std::vector<int64_t> busy;
  for (size_t e = 0; e < plan.slots.size(); ++e)
    if (!plan.slots[e].empty()) busy.push_back(static_cast<int64_t>(e));
  return busy;
}

template <class Token> void each_token(const RoutePlan& plan, int64_t width, Token&& token) {
  over_range(plan.tokens, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, plan.each * width)),
             [&](int64_t begin, int64_t end) {
               for (int64_t n = begin; n < end; ++n) token(n);
             });
}

// Row n of x to every expert of token n: one tensor an expert that has tokens.
Tensors scatter_rows(const Tensor& x, const RoutePlan& plan) {
  if (composed(x)) return composed_scatter_rows(x, plan);
  const auto width = x.size(1);
  Tensors parts;
  std::vector<void*> data(plan.slots.size());
  for (const auto e : busy_experts(plan)) {
    auto& part = parts.emplace_back(
        at::empty({static_cast<int64_t>(plan.slots[static_cast<size_t>(e)].size()), width}, x.options()));
    data[static_cast<size_t>(e)] = part.mutable_data_ptr();
  }
  with_element(x.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    const auto* in = elements<Element>(x);
    each_token(plan, width, [&](int64_t n) {
      for (auto slot = static_cast<size_t>(n * plan.each); slot < static_cast<size_t>((n + 1) * plan.each);
           ++slot)
        std::copy_n(
            in + n * width, width,
            static_cast<Element*>(data[static_cast<size_t>(plan.expert[slot])]) + plan.place[slot] * width);
    });
  });
  return parts;
}

// The way back: each token's rows, added in fp32 in order of expert. A part may be undefined: zero.
Tensor gather_sum(const Tensors& parts, const RoutePlan& plan, int64_t width,
                  const at::TensorOptions& options) {
  auto y = at::empty({plan.tokens, width}, options);
  if (composed(y)) return composed_gather_sum(parts, plan, width, options);
  std::vector<const void*> data(plan.slots.size());
  size_t part = 0;
  for (const auto e : busy_experts(plan)) {
    if (parts[part].defined()) data[static_cast<size_t>(e)] = parts[part].const_data_ptr();
    ++part;
  }
  with_element(y.scalar_type(), [&](auto element) {
    using Element = decltype(element);
    auto* out = mutable_elements<Element>(y);
    each_token(plan, width, [&](int64_t n) {
      thread_local std::vector<float> sum;
      sum.assign(static_cast<size_t>(width), 0.0f);
      for (auto slot = static_cast<size_t>(n * plan.each); slot < static_cast<size_t>((n + 1) * plan.each);
           ++slot) {
        const auto* rows = static_cast<const Element*>(data[static_cast<size_t>(plan.expert[slot])]);
        if (!rows) continue;
        const auto* row = rows + plan.place[slot] * width;
        for (int64_t i = 0; i < width; ++i) sum[static_cast<size_t>(i)] += widened(row[i]);
      }
      for (int64_t i = 0; i < width; ++i) narrow_into(out[n * width + i], sum[static_cast<size_t>(i)]);
    });
  });
  return y;
}

// A router's weights [N,K] to the experts that they are of: one tensor an expert that has tokens; and the way
// back.
Tensors scatter_weights(const Tensor& weights, const RoutePlan& plan) {
  if (composed(weights)) return composed_scatter_weights(weights, plan);
  Tensors parts;
  const auto* w = weights.const_data_ptr<float>();
  for (const auto e : busy_experts(plan)) {
    const auto& slots = plan.slots[static_cast<size_t>(e)];
    auto& part = parts.emplace_back(at::empty({static_cast<int64_t>(slots.size())}, weights.options()));
    auto* out = part.mutable_data_ptr<float>();
    for (size_t i = 0; i < slots.size(); ++i) out[i] = w[slots[i]];
  }
  return parts;
}
Tensor gather_weights(const Tensors& parts, const RoutePlan& plan, const at::TensorOptions& options) {
  auto weights = at::zeros({plan.tokens, plan.each}, options);
  if (composed(weights)) return composed_gather_weights(parts, plan, options);
  auto* out = weights.mutable_data_ptr<float>();
  auto part = parts.begin();
  for (const auto e : busy_experts(plan)) {
    const auto& slots = plan.slots[static_cast<size_t>(e)];
    for (size_t i = 0; part->defined() && i < slots.size(); ++i)
      out[slots[i]] = part->const_data_ptr<float>()[i];
    ++part;
  }
  return weights;
}

}  // namespace

Routing route(const Tensor& logits_input, const RouteRule& rule) {
  const auto logits = logits_input.contiguous();
  const int64_t tokens = logits.size(0), experts = logits.size(1), each = rule.experts_per_token;
  if (logits.scalar_type() != at::kFloat || each < 1 || each > experts)
    throw std::logic_error("a router's logits are fp32, and it chooses 1 to all experts");
  if (rule.groups < 1 || experts % rule.groups != 0 || rule.groups_per_token > rule.groups ||
      experts / rule.groups * rule.groups_per_token < each)
    throw std::logic_error("a router's groups are alike and hold the experts that it chooses");
  auto plan = std::make_shared<RoutePlan>();
  plan->tokens = tokens, plan->each = each;
  plan->expert.resize(static_cast<size_t>(tokens * each));
  plan->place.resize(plan->expert.size());
  plan->slots.resize(static_cast<size_t>(experts));
  const auto weights =
      composed(logits) ? composed_route(logits, rule, *plan)
                       : differentiable({"route", 0, bytes_of(logits), 0, bytes_of(logits)}, {logits},
                                        [&](bool) -> Computed {
                                          return rule.sigmoid ? route_by_sigmoid(logits, rule, *plan, plan)
                                                              : route_by_softmax(logits, rule, *plan, plan);
                                        });
  for (size_t slot = 0; slot < plan->expert.size(); ++slot) {
    auto& rows = plan->slots[static_cast<size_t>(plan->expert[slot])];
    plan->place[slot] = static_cast<int32_t>(rows.size());
    rows.push_back(static_cast<int32_t>(slot));
  }
  return {weights, plan};
}

std::vector<ExpertRows> rows_by_expert(const Tensor& x_input, const Routing& routing) {
  const auto x = x_input.contiguous(), weights = routing.weights.contiguous();
  const auto& plan = *routing.plan;
  const auto busy = busy_experts(plan);
  if (busy.empty()) return {};
  const auto moved = bytes_of(x) * static_cast<double>(1 + plan.each);
  const auto values =
      differentiable_many({"rows by expert", 0, moved, 0, moved}, {x, weights}, [&](bool) -> ManyComputed {
        auto parts = scatter_rows(x, plan);
        for (auto& part : scatter_weights(weights, plan)) parts.push_back(std::move(part));
        return {parts,
                [shared = routing.plan, experts = busy.size(), width = x.size(1), options = x.options(),
                 wants_x = x.requires_grad(), wants_weights = weights.requires_grad(),
                 weight_options = weights.options()](const Tensors& gradients) -> Tensors {
                  Tensors result(2);
                  if (wants_x) result[0] = gather_sum(gradients, *shared, width, options);
                  if (wants_weights)
                    result[1] = gather_weights(
                        {gradients.begin() + static_cast<std::ptrdiff_t>(experts), gradients.end()}, *shared,
                        weight_options);
                  return result;
                }};
      });
  std::vector<ExpertRows> rows;
  for (size_t b = 0; b < busy.size(); ++b) rows.push_back({busy[b], values[b], values[busy.size() + b]});
  return rows;
}

Tensor combine(const std::vector<Tensor>& result_inputs, const Routing& routing) {
  Tensors results;
  for (const auto& result : result_inputs) results.push_back(result.contiguous());
  const auto width = results.at(0).size(1);
  const auto moved = static_cast<double>((1 + routing.plan->each) * routing.plan->tokens * width) *
                     static_cast<double>(results[0].element_size());
  return differentiable({"combine", 0, moved, 0, moved}, results, [&](bool) -> Computed {
    // Each token's gradient to every expert of it; a frozen expert below which nothing is trained wants none,
    // and ignores it.
    return {gather_sum(results, *routing.plan, width, results[0].options()),
            [plan = routing.plan](const Tensor& dy) { return scatter_rows(dy, *plan); }};
  });
}

}  // namespace retort
