// Route and combine against the dense definition: every expert for every token, weighted by zeros where it
// was not chosen.
#include "ops/route.h"

#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include "ops/gated.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

TEST(Route, ChoosesTheLargestByHand) {
  // e^logit: 1, 4, 2, 1 of 8.
  const auto logits = at::tensor({0.0, std::log(4.0), std::log(2.0), 0.0}, at::kFloat).view({1, 4});
  const auto all = route(logits, {2, true});
  EXPECT_EQ(all.plan->expert, (std::vector<int32_t>{1, 2}));
  EXPECT_NEAR(all.weights[0][0].item<double>(), 4.0 / 6, 1e-6);
  EXPECT_NEAR(all.weights[0][1].item<double>(), 2.0 / 6, 1e-6);
  const auto plain = route(logits, {3, false});  // experts 0 and 3 are equal: the lower number
  EXPECT_EQ(plain.plan->expert, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_NEAR(plain.weights[0][0].item<double>(), 1.0 / 8, 1e-6);
  EXPECT_NEAR(plain.weights[0][1].item<double>(), 4.0 / 8, 1e-6);
}

TEST(Route, NotANumberStillNamesExperts) {
  const auto routing = route(at::full({2, 5}, NAN), {3, true});
  EXPECT_EQ(routing.plan->expert, (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
}

TEST(Route, WeightsAndTheirGradientEqualTheDenseSoftmax) {
  for (const bool renormalise : {true, false}) {
    auto logits = random({17, 6}, 1).requires_grad_();
    const auto dw = random({17, 6}, 2);
    const auto routing = route(logits, {3, renormalise});
    const auto chosen = std::get<1>(logits.detach().topk(3, 1)), sorted = std::get<0>(chosen.sort(1));
    EXPECT_TRUE(at::equal(
        sorted, at::tensor(std::vector<int64_t>(routing.plan->expert.begin(), routing.plan->expert.end()))
                    .view({17, 3})));
    auto expected = logits.softmax(1).gather(1, sorted);
    if (renormalise) expected = expected / expected.sum(1, true);
    EXPECT_LT(distance(routing.weights, expected), 1e-6);
    const auto picked = dw.narrow(1, 0, 3);
    EXPECT_LT(distance(torch::autograd::grad({routing.weights}, {logits}, {picked})[0],
                       torch::autograd::grad({expected}, {logits}, {picked})[0]),
              2e-6);
  }
}

// DeepSeek's choice (arXiv:2412.19437, section 2.1.2) composed of LibTorch's operations: the bias and the
// groups decide who is chosen and are in no weight.
TEST(Route, SigmoidsWithGroupsAndABiasEqualTheDefinition) {
  for (const bool renormalise : {true, false})
    for (const auto& [groups, best] : {std::pair<int64_t, int64_t>{1, 1}, {4, 2}, {3, 1}, {4, 4}}) {
      auto logits = random({31, 12}, 7).requires_grad_();
      const auto bias = 0.4 * random({12}, 8);
      const auto dw = random({31, 3}, 9);
      RouteRule rule{3, renormalise};
      rule.sigmoid = true, rule.groups = groups, rule.groups_per_token = best, rule.scale = 2.5f,
      rule.bias = bias;
      const auto routing = route(logits, rule);
      const auto scores = logits.sigmoid();
      auto judged = scores.detach() + bias;
      const auto sums = std::get<0>(judged.view({31, groups, -1}).topk(2, 2)).sum(2);
      const auto kept = at::zeros({31, groups}).scatter(1, std::get<1>(sums.topk(best, 1)), 1);
      judged = judged.masked_fill(kept.repeat_interleave(12 / groups, 1).eq(0), -INFINITY);
      const auto chosen = std::get<0>(std::get<1>(judged.topk(3, 1)).sort(1));
      EXPECT_TRUE(at::equal(
          chosen, at::tensor(std::vector<int64_t>(routing.plan->expert.begin(), routing.plan->expert.end()))
                      .view({31, 3})));
      auto expected = scores.gather(1, chosen);
      if (renormalise) expected = expected / (expected.sum(1, true) + 1e-20);
      expected = expected * 2.5;
      EXPECT_LT(distance(routing.weights, expected), 1e-6);
      EXPECT_LT(distance(torch::autograd::grad({routing.weights}, {logits}, {dw})[0],
                         torch::autograd::grad({expected}, {logits}, {dw})[0]),
                2e-6);
    }
}

// DeepSeek V2's choice, where a group is as good as its best expert (arXiv:2405.04434, section 2.1.3), and
// Mistral Small 4's, where it is as good as its two best; weights are shares of a softmax, times a scale.
TEST(Route, SoftmaxWithGroupsAndAScaleEqualsTheDefinition) {
  for (const bool renormalise : {true, false})
    for (const int64_t judged_by : {1, 2})
      for (const auto& [groups, best] : {std::pair<int64_t, int64_t>{1, 1}, {4, 2}, {3, 1}, {4, 4}}) {
        auto logits = (2 * random({31, 12}, 7)).requires_grad_();
        const auto dw = random({31, 3}, 9);
        RouteRule rule{3, renormalise};
        rule.groups = groups, rule.groups_per_token = best, rule.judged_by = judged_by, rule.scale = 2.5f;
        const auto routing = route(logits, rule);
        const auto scores = logits.softmax(1);
        const auto grouped = scores.detach().view({31, groups, -1});
        const auto sums = std::get<0>(grouped.topk(judged_by, 2)).sum(2);
        const auto kept = at::zeros({31, groups}).scatter(1, std::get<1>(sums.topk(best, 1)), 1);
        const auto left = scores.detach().masked_fill(kept.repeat_interleave(12 / groups, 1).eq(0), 0);
        const auto chosen = std::get<0>(std::get<1>(left.topk(3, 1)).sort(1));
        EXPECT_TRUE(at::equal(
            chosen, at::tensor(std::vector<int64_t>(routing.plan->expert.begin(), routing.plan->expert.end()))
                        .view({31, 3})));
        auto expected = scores.gather(1, chosen);
        if (renormalise) expected = expected / expected.sum(1, true);
        expected = expected * 2.5;
        EXPECT_LT(distance(routing.weights, expected), 1e-6);
        EXPECT_LT(distance(torch::autograd::grad({routing.weights}, {logits}, {dw})[0],
                           torch::autograd::grad({expected}, {logits}, {dw})[0]),
                  2e-6);
      }
}

// A layer of experts that are one matrix each, against sum over all experts of (chosen ? weight : 0) x W_e^T.
TEST(Route, GatherAndCombineEqualTheDenseSum) {
  constexpr int64_t kTokens = 23, kExperts = 5, kWidth = 8, kOut = 8;
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    auto x = random({kTokens, kWidth}, 3).to(type).requires_grad_();
    auto logits = random({kTokens, kExperts}, 4);
    logits.select(1, 3).fill_(-50);  // an expert without tokens
    logits.requires_grad_();
    auto w = random({kExperts, kOut, kWidth}, 5).to(type).requires_grad_();
    const auto dy = random({kTokens, kOut}, 6).to(type);
    const auto routing = route(logits, {2, true});
    EXPECT_TRUE(routing.plan->slots[3].empty());
    std::vector<Tensor> results;
    const auto parts = rows_by_expert(x, routing);
    ASSERT_EQ(parts.size(), 4u);
    for (const auto& part : parts)
      results.push_back(at::linear(part.x, w[part.expert]) * part.weights.unsqueeze(1).to(type));
    const auto y = combine(results, routing);
    const auto gradients = torch::autograd::grad({y}, {x, logits, w}, {dy});

    const auto index =
        at::tensor(std::vector<int64_t>(routing.plan->expert.begin(), routing.plan->expert.end()))
            .view({kTokens, 2});
    const auto p = logits.softmax(1).gather(1, index);
    const auto weights = at::zeros({kTokens, kExperts}).scatter(1, index, p / p.sum(1, true));
    const auto wide_x = x.to(at::kFloat), wide_w = w.to(at::kFloat);
    const auto reference = (at::einsum("nh,eoh->neo", {wide_x, wide_w}) * weights.unsqueeze(2)).sum(1);
    const auto expected = torch::autograd::grad({reference}, {x, logits, w}, {dy.to(at::kFloat)});
    const double tolerance = type == at::kFloat ? 2e-6 : 2e-2;
    EXPECT_LT(distance(y.to(at::kFloat), reference), tolerance);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT(distance(gradients[i].to(at::kFloat), expected[i].to(at::kFloat)), tolerance) << i;
  }
}

TEST(WeightedGated, EqualsTheWeightedProduct) {
  auto gate = random({9, 16}, 1).requires_grad_(), up = random({9, 16}, 2).requires_grad_(),
       weights = random({9}, 3).requires_grad_();
  const auto dy = random({9, 16}, 4);
  const auto ours = weighted_gated(gate, up, weights, Activation::silu);
  const auto reference = weights.unsqueeze(1) * at::silu(gate) * up;
  EXPECT_LT(distance(ours, reference), 2e-6);
  const auto gradients = torch::autograd::grad({ours}, {gate, up, weights}, {dy}),
             expected = torch::autograd::grad({reference}, {gate, up, weights}, {dy});
  for (size_t i = 0; i < 3; ++i) EXPECT_LT(distance(gradients[i], expected[i]), 2e-6) << i;
}

}  // namespace
}  // namespace retort
