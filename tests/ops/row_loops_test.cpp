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
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(scale * draws.normal(static_cast<uint64_t>(i))));
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
      for (size_t i = 0; i < x.size(); ++i)
        EXPECT_NEAR(y[i], x[i] * r * (1 + w[i]), 1e-5) << path.name << " " << width;
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
        path.loops->f32.gated_backward(activation, dy.data(), gate.data(), up.data(), dgate.data(),
                                       dup.data(), width);
        for (size_t i = 0; i < gate.size(); ++i) {
          const double slope = (value(gate[i] + 1e-4) - value(gate[i] - 1e-4)) / 2e-4;
          EXPECT_NEAR(y[i], value(gate[i]) * up[i], 1e-5) << path.name;
          EXPECT_NEAR(dup[i], dy[i] * value(gate[i]), 1e-5) << path.name;
          EXPECT_NEAR(dgate[i], dy[i] * up[i] * slope, 1e-4) << path.name;
        }
      }
    }
}

// Scores of 40 keys by 64 columns, three query heads a query from the second head of the first query on.
struct SeenScores {
  static constexpr int64_t kKeys = 40, kColumns = 64, kGroup = 3, kFirst = 1, kDiagonal = 18;
  int64_t window;
  int64_t query(int64_t column) const { return (kFirst + column) / kGroup; }
  bool seen(int64_t key, int64_t column) const {
    return key <= kDiagonal + query(column) && (window == 0 || key > kDiagonal + query(column) - window);
  }
};

TEST(RowLoops, SoftmaxOfAWindowWithACap) {
  for (const auto& path : paths())
    for (const float cap : {0.0f, 2.0f}) {
      const auto raw = normals(40, "scores", 4);
      auto s = raw;
      const float log_sum = path.loops->scores.probabilities(s.data(), 40, 3, 36, 0.5f, cap);
      double total = 0;
      std::vector<double> z(40);
      for (size_t i = 3; i < 36; ++i)
        total += std::exp(z[i] = cap > 0 ? cap * std::tanh(raw[i] * 0.5 / cap) : raw[i] * 0.5);
      EXPECT_NEAR(log_sum, std::log(total), 1e-5) << path.name;
      for (size_t i = 0; i < 40; ++i)
        EXPECT_NEAR(s[i], i >= 3 && i < 36 ? std::exp(z[i]) / total : 0, 1e-6) << path.name << " " << i;
    }
}

// The chunks of 25 and 15 keys of a column's softmax join, and its gradient is dS = P (dP - sum P dP) * scale
// * (1 - tanh^2).
TEST(RowLoops, SoftmaxOverKeysInChunksAndItsGradient) {
  constexpr auto kKeys = SeenScores::kKeys, kColumns = SeenScores::kColumns;
  const auto at = [](int64_t key, int64_t column) { return static_cast<size_t>(key * kColumns + column); };
  for (const auto& path : paths())
    for (const float cap : {0.0f, 2.0f})
      for (const int64_t window : {0, 9}) {
        const SeenScores scores{window};
        const auto raw = normals(kKeys * kColumns, "scores", 4), upstream = normals(kKeys * kColumns, "dp");
        const auto block = [&](std::vector<float>& s, int64_t first, int64_t keys) {
          return ScoreBlock{
              s.data() + first * kColumns, kColumns, keys, kColumns, scores.kGroup, scores.kFirst,
              scores.kDiagonal - first,    window,   0.5f, cap};
        };
        auto s = raw;
        std::vector<float> p(s.size()), top(kColumns, kNoScore), sums(kColumns), factors(kColumns);
        path.loops->f32.softmax(block(s, 0, 25), p.data(), kColumns, top.data(), sums.data(), factors.data());
        path.loops->f32.softmax(block(s, 25, kKeys - 25), p.data() + 25 * kColumns, kColumns, top.data(),
                                sums.data(), factors.data());
        path.loops->scores.finish(top.data(), sums.data(), kColumns);
        std::vector<float> shared(kColumns), probabilities(s.size()), ds(s.size());
        std::vector<double> expected(s.size());
        for (int64_t c = 0; c < kColumns; ++c) {
          double total = 0;
          for (int64_t key = 0; key < kKeys; ++key) {
            const double z = raw[at(key, c)] * 0.5;
            total += expected[at(key, c)] =
                scores.seen(key, c) ? std::exp(cap > 0 ? cap * std::tanh(z / cap) : z) : 0;
          }
          EXPECT_NEAR(top[static_cast<size_t>(c)], std::log(total), 2e-5) << path.name << " " << c;
          double mean = 0;
          for (int64_t key = 0; key < kKeys; ++key)
            mean += (expected[at(key, c)] /= total) * upstream[at(key, c)];
          shared[static_cast<size_t>(c)] = static_cast<float>(mean);
          for (int64_t key = 0; key < kKeys; ++key) {  // the first chunk is relative to an earlier maximum
            const float factor =
                sums[static_cast<size_t>(c)] * (key < 25 ? factors[static_cast<size_t>(c)] : 1);
            EXPECT_NEAR(p[at(key, c)] * factor, expected[at(key, c)], 1e-6)
                << path.name << " " << key << " " << c;
          }
        }
        s = raw;
        path.loops->f32.softmax_backward(block(s, 0, kKeys), upstream.data(), top.data(), shared.data(),
                                         probabilities.data(), ds.data(), kColumns);
        for (int64_t c = 0; c < kColumns; ++c)
          for (int64_t key = 0; key < kKeys; ++key) {
            const double bent = cap > 0 ? std::tanh(raw[at(key, c)] * 0.5 / cap) : 0,
                         e = expected[at(key, c)];
            EXPECT_NEAR(probabilities[at(key, c)], e, 1e-6) << path.name;
            EXPECT_NEAR(ds[at(key, c)],
                        e * (upstream[at(key, c)] - shared[static_cast<size_t>(c)]) * 0.5 * (1 - bent * bent),
                        1e-5)
                << path.name << " " << key << " " << c;
          }
      }
}

TEST(RowLoops, LogSumExpKeepsLargeLogitsAndShortTails) {
  for (const auto& path : paths()) {
    const std::vector<float> z = {1000, 999, -5000};
    EXPECT_NEAR(path.loops->f32.log_sum_exp(z.data(), 3), 1000 + std::log1p(std::exp(-1.0)), 1e-4)
        << path.name;
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
