// Gated activations on the CPU: bit for bit their scalar definition, and near to what double precision gives.
#include "kernels/gated_body.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

double activated(double x, bool silu) {
  return silu ? x / (1 + std::exp(-x))
              : 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

TEST(GatedKernel, NumbersAreThoseOfDoublePrecision) {
  for (const bool silu : {true, false})
    for (double x = -12; x < 12; x += 0.37) {
      const auto [value, slope] = gated_number(static_cast<float>(x), silu);
      const double at = static_cast<float>(x);
      EXPECT_NEAR(value, activated(at, silu), 2e-6 * std::max(1.0, std::fabs(at))) << x;
      const double difference = (activated(at + 1e-5, silu) - activated(at - 1e-5, silu)) / 2e-5;
      EXPECT_NEAR(slope, difference, 1e-5) << x;
    }
}

template <class Number> void expect_gated(int64_t count, bool silu) {
  const Draws draws(2, "gated");
  const auto numbers = [&](uint64_t from) {
    std::vector<Words> all(static_cast<size_t>(count) * sizeof(Number) / 16 + 2);
    for (int64_t i = 0; i < count; ++i)
      narrow_to(reinterpret_cast<Number*>(all.data())[i],
                static_cast<float>(3 * draws.normal(from + static_cast<uint64_t>(i))));
    return all;
  };
  const auto gate = numbers(0), up = numbers(1 << 20), gradient = numbers(2 << 20);
  std::vector<Words> out(gate.size()), to_gate(gate.size()), to_up(gate.size());
  const auto at = [](const std::vector<Words>& all, int64_t i) {
    return reinterpret_cast<const Number*>(all.data())[i];
  };
  const auto rounded = [](float value) {
    Number number;
    narrow_to(number, value);
    return number;
  };
  GatedJob job;
  job.gate = gate.data(), job.up = up.data(), job.out = out.data(), job.count = count, job.silu = silu;
  job.to_gate = to_gate.data(), job.to_up = to_up.data();
  for (const uint64_t order : {0, 1, 2}) {
    Launch launch;
    launch.blocks = 2, launch.threads = kGatedThreads, launch.order = order;
    for (const void* of : {static_cast<const void*>(nullptr), static_cast<const void*>(gradient.data())}) {
      job.gradient = of;
      run_blocks(launch, [&](EmulatedThread& threads) { gate_numbers<Number>(threads, job); });
    }
    for (int64_t i = 0; i < count; ++i) {
      const float u = as_float(at(up, i)), d = as_float(at(gradient, i));
      const auto one = gated_number(as_float(at(gate, i)), silu);
      ASSERT_EQ(at(out, i), rounded(one.activated * u)) << i;
      ASSERT_EQ(at(to_gate, i), rounded(d * u * one.slope)) << i;
      ASSERT_EQ(at(to_up, i), rounded(d * one.activated)) << i;
    }
    EXPECT_EQ(at(out, count), Number{}) << "wrote beyond the end";
    EXPECT_EQ(at(to_up, count), Number{}) << "wrote beyond the end";
  }
}

TEST(GatedKernel, EqualsItsScalarDefinition) {
  for (const int64_t count : {1, 8, 9, 4100})
    for (const bool silu : {true, false}) {
      expect_gated<float>(count, silu);
      expect_gated<uint16_t>(count, silu);
    }
}

}  // namespace
}  // namespace retort
