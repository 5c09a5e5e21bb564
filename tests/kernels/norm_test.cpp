// RMSNorm on the CPU: bit for bit its scalar definition, whose order of sums is the kernel's, and near to
// what double precision gives.
#include "kernels/norm_body.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

constexpr float kOffset = 1, kEpsilon = 1e-5f;

// Rows of numbers at a multiple of 16.
template <class Number> struct Matrix {
  std::vector<Words> memory;
  explicit Matrix(int64_t count, uint64_t from = 0)
      : memory(static_cast<size_t>(count) * sizeof(Number) / 16 + 2) {
    const Draws draws(6, "norm");
    for (int64_t i = 0; from > 0 && i < count; ++i)
      narrow_to(data()[i], static_cast<float>(draws.normal((from << 20) + static_cast<uint64_t>(i))));
  }
  Number* data() { return reinterpret_cast<Number*>(memory.data()); }
  float at(int64_t i) { return as_float(data()[i]); }
};

// The sum of term(i) over a row as the kernel sums: lanes one after the other, then in pairs.
template <class Term> float sum_of_row(int64_t width, Term term) {
  std::vector<float> lanes(kNormThreads);
  const int64_t step = width % 8 == 0 ? 8 : 1;
  for (int64_t i = 0; i < width; ++i) lanes[static_cast<size_t>(i / step % kNormThreads)] += term(i);
  for (size_t half = kNormThreads / 2; half > 0; half /= 2)
    for (size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

Launch of_order(uint64_t order, int64_t blocks = 2) {
  Launch launch;
  launch.blocks = blocks, launch.threads = kNormThreads, launch.shared_bytes = kNormShared;
  launch.order = order;
  return launch;
}

template <class Number> Number rounded(float value) {
  Number number{};
  narrow_to(number, value);
  return number;
}

template <class Number> void expect_normed(int64_t width, bool with_delta) {
  constexpr int64_t kRows = 5;
  Matrix<Number> x(kRows * width, 1), delta(kRows * width, 2), sum(kRows * width), out(kRows * width);
  Matrix<Number> gradient(kRows * width, 3), back(kRows * width);
  Matrix<float> weight(width, 4);
  std::vector<float> scales(kRows);
  for (const uint64_t order : {0, 1, 2}) {
    NormJob job;
    job.x = x.data(), job.out = out.data(), job.weight = weight.data(), job.scales = scales.data();
    job.rows = kRows, job.width = width, job.offset = kOffset, job.epsilon = kEpsilon;
    if (with_delta) job.delta = delta.data(), job.sum = sum.data();
    run_blocks(of_order(order), [&](EmulatedThread& threads) { norm_rows<Number>(threads, job); });
    auto& what = with_delta ? sum : x;
    for (int64_t r = 0; r < kRows; ++r) {
      const auto at = [&](int64_t i) { return what.at(r * width + i); };
      const float scale =
          norm_scale(sum_of_row(width, [&](int64_t i) { return at(i) * at(i); }), width, kEpsilon);
      ASSERT_EQ(bits_of(scales[static_cast<size_t>(r)]), bits_of(scale)) << r;
      double squares = 0;
      for (int64_t i = 0; i < width; ++i) squares += static_cast<double>(at(i)) * at(i);
      EXPECT_NEAR(scale, 1 / std::sqrt(squares / static_cast<double>(width) + kEpsilon), 2e-6 * scale);
      for (int64_t i = 0; i < width; ++i) {
        const auto n = r * width + i;
        if (with_delta) { ASSERT_EQ(sum.data()[n], rounded<Number>(x.at(n) + delta.at(n))); }
        ASSERT_EQ(out.data()[n], rounded<Number>(normed(at(i), scale, weight.at(i), kOffset))) << n;
      }
    }
    job.x = what.data(), job.gradient = gradient.data(), job.out = back.data();
    job.more = with_delta ? delta.data() : nullptr;
    run_blocks(of_order(order), [&](EmulatedThread& threads) { norm_rows_back<Number>(threads, job); });
    for (int64_t r = 0; r < kRows; ++r) {
      const float scale = scales[static_cast<size_t>(r)];
      const auto product = [&](int64_t i) {
        const auto n = r * width + i;
        return gradient.at(n) * (weight.at(i) + kOffset) * what.at(n);
      };
      const float shared = scale * scale * sum_of_row(width, product) / static_cast<float>(width);
      for (int64_t i = 0; i < width; ++i) {
        const auto n = r * width + i;
        float value = norm_back(gradient.at(n), what.at(n), scale, weight.at(i), kOffset, shared);
        if (with_delta) value += delta.at(n);
        ASSERT_EQ(back.data()[n], rounded<Number>(value)) << n;
      }
    }
    EXPECT_EQ(out.data()[kRows * width], Number{}) << "wrote beyond the end";
    EXPECT_EQ(back.data()[kRows * width], Number{}) << "wrote beyond the end";
  }
}

TEST(NormKernel, EqualsItsScalarDefinition) {
  for (const int64_t width : {8, 33, 2056})
    for (const bool with_delta : {false, true}) {
      SCOPED_TRACE(testing::Message() << "rows of " << width << ", delta " << with_delta);
      expect_normed<float>(width, with_delta);
      expect_normed<uint16_t>(width, with_delta);
    }
}

TEST(NormKernel, EachBarrierIsNeeded) {
  constexpr int64_t kWidth = 2048;
  Matrix<float> x(2 * kWidth, 1), out(2 * kWidth), weight(kWidth, 2);
  std::vector<float> scales(2);
  NormJob job;
  job.x = x.data(), job.out = out.data(), job.weight = weight.data(), job.scales = scales.data();
  job.gradient = x.data(), job.rows = 2, job.width = kWidth;
  const auto run = [&](const Launch& launch, bool back) {
    return run_blocks(launch, [&](EmulatedThread& threads) {
      if (back) norm_rows_back<float>(threads, job);
      else norm_rows<float>(threads, job);
    });
  };
  for (const bool back : {false, true}) {
    const auto barriers = run(of_order(0, 1), back);
    EXPECT_EQ(barriers, 2 * 10);
    for (int64_t without = 0; without + 1 < barriers; ++without) {  // nothing follows the last
      auto launch = of_order(0, 1);
      launch.without = without;
      EXPECT_THROW(run(launch, back), std::runtime_error) << back << " " << without;
    }
  }
}

}  // namespace
}  // namespace retort
