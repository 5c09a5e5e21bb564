#include <gtest/gtest.h>

#include <cmath>

#include "base/half.h"
#include "base/random.h"
#include "ops/row_loops.h"

namespace retort {
namespace {

std::vector<NamedRowLoops> paths() {
  std::vector<NamedRowLoops> runnable;
  for (const auto& path : {row_loops_portable(), row_loops_avx2(), row_loops_avx512()})
    if (path.loops) runnable.push_back(path);
  return runnable;
}

std::vector<float> normals(int64_t count, const char* purpose, double scale = 1) {
  const Draws draws(5, purpose);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(scale * draws.normal(static_cast<uint64_t>(i))));
  return values;
}

// Widths around the vector length: every path must treat tails as the scalar definition does.
constexpr int64_t kWidths[] = {1, 7, 15, 16, 17, 48, 65};

TEST(RowLoops, RmsNormIsTheFormula) {
  for (const auto& path : paths())
    for (const auto width : kWidths) {
      const auto x = normals(width, "x", 3), w = normals(width, "w");
      double squares = 0;
      for (const float v : x) squares += static_cast<double>(v) * v;
      const double r = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
      std::vector<float> y(x.size());
      float stored = 0;
      path.loops->f32.rms_norm(x.data(), nullptr, nullptr, w.data(), 1, 1e-5f, y.data(), &stored, width);
      EXPECT_NEAR(stored / r, 1, 1e-6) << path.name;
      for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y[i], x[i] * r * (1 + w[i]), 1e-5) << path.name << " " << width;
    }
}

TEST(RowLoops, GatedActivationsAreTheFormulas) {
  for (const auto& path : paths())
    for (const auto width : kWidths) {
      const auto gate = normals(width, "gate", 4), up = normals(width, "up"), dy = normals(width, "dy");
      std::vector<float> y(gate.size()), dgate(y), dup(y);
      for (const auto activation : {Activation::silu, Activation::gelu_tanh}) {
        const auto value = [&](double g) {
          if (activation == Activation::silu) return g / (1 + std::exp(-g));
          return 0.5 * g * (1 + std::tanh(std::sqrt(2 / M_PI) * (g + 0.044715 * g * g * g)));
        };
        path.loops->f32.gated(activation, gate.data(), up.data(), y.data(), width);
        path.loops->f32.gated_backward(activation, dy.data(), gate.data(), up.data(), dgate.data(), dup.data(), width);
        for (size_t i = 0; i < gate.size(); ++i) {
          const double slope = (value(gate[i] + 1e-4) - value(gate[i] - 1e-4)) / 2e-4;
          EXPECT_NEAR(y[i], value(gate[i]) * up[i], 1e-5) << path.name;
          EXPECT_NEAR(dup[i], dy[i] * value(gate[i]), 1e-5) << path.name;
          EXPECT_NEAR(dgate[i], dy[i] * up[i] * slope, 1e-4) << path.name;
        }
      }
    }
}

TEST(RowLoops, SoftmaxOfAWindowWithACap) {
  for (const auto& path : paths())
    for (const float cap : {0.0f, 2.0f}) {
      const auto raw = normals(40, "scores", 4);
      auto s = raw;
      const float log_sum = path.loops->scores.probabilities(s.data(), 40, 3, 36, 0.5f, cap);
      double total = 0;
      std::vector<double> z(40);
      for (size_t i = 3; i < 36; ++i) total += std::exp(z[i] = cap > 0 ? cap * std::tanh(raw[i] * 0.5 / cap) : raw[i] * 0.5);
      EXPECT_NEAR(log_sum, std::log(total), 1e-5) << path.name;
      for (size_t i = 0; i < 40; ++i) EXPECT_NEAR(s[i], i >= 3 && i < 36 ? std::exp(z[i]) / total : 0, 1e-6) << path.name << " " << i;
      // dS = P (dP - sum P dP) * scale * (1 - tanh^2)
      auto again = raw, dp = normals(40, "dp");
      const auto given = dp;
      double shared = 0;
      for (size_t i = 3; i < 36; ++i) shared += std::exp(z[i]) / total * given[i];
      path.loops->scores.backward(again.data(), dp.data(), 40, 3, 36, 0.5f, cap, log_sum, static_cast<float>(shared));
      for (size_t i = 0; i < 40; ++i) {
        const double bend = cap > 0 ? 1 - z[i] * z[i] / cap / cap : 1;
        EXPECT_NEAR(dp[i], i >= 3 && i < 36 ? std::exp(z[i]) / total * (given[i] - shared) * 0.5 * bend : 0, 1e-5) << path.name << " " << i;
        EXPECT_NEAR(again[i], s[i], 1e-6);
      }
    }
}

TEST(RowLoops, LogSumExpKeepsLargeLogitsAndShortTails) {
  for (const auto& path : paths()) {
    const std::vector<float> z = {1000, 999, -5000};
    EXPECT_NEAR(path.loops->f32.log_sum_exp(z.data(), 3), 1000 + std::log1p(std::exp(-1.0)), 1e-4) << path.name;
    const float lone = -80;
    EXPECT_NEAR(path.loops->f32.log_sum_exp(&lone, 1), -80, 1e-4) << path.name;
    const std::vector<float> broken = {1, NAN, 2};
    EXPECT_TRUE(std::isnan(path.loops->f32.log_sum_exp(broken.data(), 3))) << path.name;
  }
}

TEST(RowLoops, Bf16RoundsToNearestEven) {
  const auto x = normals(67, "bf16", 100);
  for (const auto& path : paths()) {
    std::vector<uint16_t> bits(x.size());
    path.loops->bf16.from_float(x.data(), bits.data(), 67);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(bits[i], float_to_bf16(x[i])) << path.name;
    std::vector<float> back(x.size());
    path.loops->bf16.to_float(bits.data(), 1, back.data(), 67);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(back[i], bf16_to_float(bits[i])) << path.name;
  }
}

}  // namespace
}  // namespace retort
