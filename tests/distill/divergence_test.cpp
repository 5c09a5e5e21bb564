// Values by hand; gradients against LibTorch's own autograd in fp64.
#include "distill/divergence.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace retort {
namespace {

using at::Tensor;

struct Measured {
  double nats;
  std::vector<float> gradient;
};

Measured measured(std::string_view name, const std::vector<float>& p, const std::vector<float>& q,
                  double parameter = -1) {
  std::vector<float> log_p, log_q;
  for (const float x : p) log_p.push_back(std::log(x));  // -inf for 0
  for (const float x : q) log_q.push_back(std::log(x));
  const auto& divergence = find_divergence(name);
  Measured result{0, std::vector<float>(p.size())};
  result.nats = measure(divergence, {log_p, p, log_q, q}, parameter < 0 ? divergence.parameter : parameter,
                        result.gradient);
  return result;
}

// p = (1/4, 3/4), q = (1/2, 1/2)
TEST(Divergence, ValuesByHand) {
  const std::vector<float> p = {0.25f, 0.75f}, q = {0.5f, 0.5f};
  EXPECT_NEAR(measured("forward_kl", p, q).nats, 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-7);
  EXPECT_NEAR(measured("reverse_kl", p, q).nats, 0.5 * std::log(2) + 0.5 * std::log(2.0 / 3), 1e-7);
  // m = (3/8, 5/8)
  EXPECT_NEAR(measured("jensen_shannon", p, q).nats,
              0.5 * (0.25 * std::log(2.0 / 3) + 0.75 * std::log(1.2)) +
                  0.5 * (0.5 * std::log(4.0 / 3) + 0.5 * std::log(0.8)),
              1e-7);
  // m = 0.2 p + 0.8 q = (0.45, 0.55)
  EXPECT_NEAR(measured("skewed_kl", p, q, 0.2).nats,
              0.25 * std::log(0.25 / 0.45) + 0.75 * std::log(0.75 / 0.55), 1e-7);
  // m = 0.2 q + 0.8 p = (0.3, 0.7)
  EXPECT_NEAR(measured("skewed_reverse_kl", p, q, 0.2).nats,
              0.5 * std::log(0.5 / 0.3) + 0.5 * std::log(0.5 / 0.7), 1e-7);
  EXPECT_NEAR(measured("total_variation", p, q).nats, 0.25, 1e-7);
}

// The head is the 0.5 (mass 0.5 reached), the tail the others: gaps 0.3 and 0.1 + 0.2.
TEST(Divergence, AdaptiveKlWeighsHeadAndTailByTheirGaps) {
  const std::vector<float> p = {0.3f, 0.5f, 0.2f}, q = {0.4f, 0.2f, 0.4f};
  const double forward = measured("forward_kl", p, q).nats, reverse = measured("reverse_kl", p, q).nats;
  EXPECT_NEAR(measured("adaptive_kl", p, q).nats, 0.5 * forward + 0.5 * reverse, 1e-6);
  // gaps: head (0.5, 0.3) 0.3 + 0.1, tail 0.2
  EXPECT_NEAR(measured("adaptive_kl", p, q, 0.6).nats, 2.0 / 3 * forward + 1.0 / 3 * reverse, 1e-6);
}

TEST(Divergence, DirectionsDifferAndEqualDistributionsCostNothing) {
  const std::vector<float> p = {0.7f, 0.2f, 0.1f}, q = {0.1f, 0.2f, 0.7f}, r = {0.2f, 0.7f, 0.1f};
  EXPECT_GT(std::abs(measured("forward_kl", {0.9f, 0.1f}, {0.5f, 0.5f}).nats -
                     measured("reverse_kl", {0.9f, 0.1f}, {0.5f, 0.5f}).nats),
            0.1);
  for (const auto& row : divergences()) {
    const auto same = measured(row.name, p, p);
    EXPECT_NEAR(same.nats, 0, 1e-7) << row.name;
    for (const float g : same.gradient) EXPECT_NEAR(g, 0, 1e-7) << row.name;
    EXPECT_GT(measured(row.name, p, q).nats, 0.01) << row.name;
    EXPECT_GT(measured(row.name, r, q).nats, 0.01) << row.name;
  }
}

TEST(Divergence, ZeroProbabilitiesStayFinite) {
  for (const auto& row : divergences()) {
    for (const auto& [p, q] : {std::pair<std::vector<float>, std::vector<float>>{{1, 0, 0}, {0.5f, 0.5f, 0}},
                               {{0.5f, 0.5f, 0}, {1, 0, 0}},
                               {{1, 0, 0}, {0, 0, 1}}}) {
      const auto result = measured(row.name, p, q);
      EXPECT_TRUE(std::isfinite(result.nats)) << row.name;
      for (const float g : result.gradient) EXPECT_TRUE(std::isfinite(g)) << row.name;
    }
  }
  EXPECT_NEAR(measured("forward_kl", {1, 0, 0}, {0.5f, 0.5f, 0}).nats, std::log(2), 1e-6);
}

Tensor reference(std::string_view name, const Tensor& p, const Tensor& q) {
  const auto kl = [](const Tensor& a, const Tensor& b) { return (a * (a.log() - b.log())).sum(); };
  if (name == "forward_kl") return kl(p, q);
  if (name == "reverse_kl") return kl(q, p);
  if (name == "jensen_shannon") return 0.5 * kl(p, 0.5 * p + 0.5 * q) + 0.5 * kl(q, 0.5 * p + 0.5 * q);
  if (name == "skewed_kl") return kl(p, 0.1 * p + 0.9 * q);
  if (name == "skewed_reverse_kl") return kl(q, 0.1 * q + 0.9 * p);
  if (name == "total_variation") return 0.5 * (p - q).abs().sum();
  const auto [sorted, order] = p.sort(-1, true);
  const auto in_head = (sorted.cumsum(-1) - sorted).lt(0.5);
  const auto gap = (p - q).abs().index_select(0, order);
  const auto head = (gap * in_head).sum().item<double>(), all = gap.sum().item<double>();
  return head / all * kl(p, q) + (1 - head / all) * kl(q, p);
}

TEST(Divergence, GradientsInLogitsEqualAutograd) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(3);
  for (int round = 0; round < 5; ++round) {
    const auto teacher = at::randn({50}, generator, at::TensorOptions(at::kDouble)) * 2;
    auto student = at::randn({50}, generator, at::TensorOptions(at::kDouble)).requires_grad_();
    for (const auto& row : divergences()) {
      const auto p = teacher.softmax(-1), q = student.softmax(-1);
      const auto value = reference(row.name, p, q);
      const auto expected = torch::autograd::grad({value}, {student})[0];
      const auto of = [](const Tensor& x) {
        const auto single = x.detach().to(at::kFloat).contiguous();
        return std::vector<float>(single.const_data_ptr<float>(),
                                  single.const_data_ptr<float>() + single.numel());
      };
      const auto ours = measured(row.name, of(p), of(q));
      EXPECT_NEAR(ours.nats, value.item<double>(), 2e-6) << row.name;
      for (int64_t i = 0; i < 50; ++i)
        EXPECT_NEAR(ours.gradient[static_cast<size_t>(i)], expected[i].item<double>(), 2e-6)
            << row.name << " " << i;
    }
  }
}

}  // namespace
}  // namespace retort
