// Rotations on the CPU: bit for bit their scalar definition, and near to what double precision gives.
#include "kernels/rotate_body.h"

#include <gtest/gtest.h>

#include <cmath>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

constexpr int64_t kRows = 3, kHeads = 2, kPositions = 5;
constexpr int64_t kPosition[kRows] = {4, 0, 2};

struct Shape {
  int64_t width, half, first;
};

// By the definition of ops/rotate.h, one number after the other; `sign` -1 is the way back.
template <class Number> std::vector<Number> rotated(const std::vector<Number>& x, const Shape& shape,
                                                    bool interleaved, const std::vector<float>& cosine,
                                                    const std::vector<float>& sine, float sign) {
  auto out = x;
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t head = 0; head < kHeads; ++head)
      for (int64_t i = 0; i < shape.half; ++i) {
        const auto begin = (row * kHeads + head) * shape.width + shape.first;
        const auto one = static_cast<size_t>(begin + (interleaved ? 2 * i : i));
        const auto other = static_cast<size_t>(begin + (interleaved ? 2 * i + 1 : i + shape.half));
        const auto at = static_cast<size_t>(kPosition[row] * shape.half + i);
        const float a = as_float(x[one]), b = as_float(x[other]), c = cosine[at], s = sign * sine[at];
        narrow_to(out[one], a * c - b * s);
        narrow_to(out[other], b * c + a * s);
      }
  return out;
}

template <class Number> void expect_rotated(const Shape& shape, bool interleaved) {
  const Draws draws(4, "rotate");
  const int64_t count = kRows * kHeads * shape.width;
  std::vector<Words> x(static_cast<size_t>(count) * sizeof(Number) / 16 + 2), out(x.size()), cosine(64);
  std::vector<Words> sine(64);
  auto* numbers = reinterpret_cast<Number*>(x.data());
  for (int64_t i = 0; i < count; ++i)
    narrow_to(numbers[i], static_cast<float>(draws.normal(static_cast<uint64_t>(i))));
  auto *c = reinterpret_cast<float*>(cosine.data()), *s = reinterpret_cast<float*>(sine.data());
  ASSERT_LE(kPositions * shape.half, 256);
  for (int64_t i = 0; i < kPositions * shape.half; ++i) {
    const auto angle = draws.uniform(5000 + static_cast<uint64_t>(i)) * 6.28;
    c[i] = static_cast<float>(std::cos(angle)), s[i] = static_cast<float>(std::sin(angle));
  }
  RotateJob job;
  job.x = x.data(), job.out = out.data(), job.positions = kPosition, job.cosine = c, job.sine = s;
  job.rows = kRows, job.heads = kHeads, job.width = shape.width, job.half = shape.half;
  job.first = shape.first, job.interleaved = interleaved;
  const std::vector<Number> before(numbers, numbers + count);
  const std::vector<float> cosines(c, c + kPositions * shape.half), sines(s, s + kPositions * shape.half);
  for (const bool back : {false, true})
    for (const uint64_t order : {0, 1, 2}) {
      job.back = back;
      std::fill(out.begin(), out.end(), Words());
      Launch launch;
      launch.blocks = 2, launch.threads = kRotateThreads, launch.order = order;
      run_blocks(launch, [&](EmulatedThread& threads) { rotate_heads<Number>(threads, job); });
      const auto* got = reinterpret_cast<const Number*>(out.data());
      ASSERT_EQ(std::vector<Number>(got, got + count),
                rotated(before, shape, interleaved, cosines, sines, back ? -1.0f : 1.0f))
          << back << " " << order;
      EXPECT_EQ(got[count], Number{}) << "wrote beyond the end";
    }
}

TEST(RotateKernel, EqualsItsScalarDefinition) {
  // By eights: all of a head, the end of one (DeepSeek), the beginning of one; by single pairs: odd widths.
  for (const Shape& shape : {Shape{32, 16, 0}, {40, 8, 24}, {48, 16, 0}, {56, 16, 8}, {11, 4, 2}, {6, 3, 0}})
    for (const bool interleaved : {false, true}) {
      SCOPED_TRACE(testing::Message() << shape.width << ", " << shape.half << " pairs from " << shape.first
                                      << (interleaved ? ", interleaved" : ", half-split"));
      expect_rotated<float>(shape, interleaved);
      expect_rotated<uint16_t>(shape, interleaved);
    }
}

// Pairs of (3, 4) turned by the angle of (0.6, 0.8): (3 0.6 - 4 0.8, 4 0.6 + 3 0.8) = (-1.4, 4.8), and back.
TEST(RotateKernel, TurnsAPairByHand) {
  const auto there = rotated_pair(3, 4, 0.6f, 0.8f);
  EXPECT_NEAR(there.a, -1.4, 1e-6);
  EXPECT_NEAR(there.b, 4.8, 1e-6);
  const auto back = rotated_pair(there.a, there.b, 0.6f, -0.8f);
  EXPECT_NEAR(back.a, 3, 1e-6);
  EXPECT_NEAR(back.b, 4, 1e-6);
}

// A number that is no number passes a kernel that moves it with all its bits.
TEST(RotateKernel, WhatStaysKeepsItsBits) {
  alignas(16) uint16_t x[16] = {}, out[16] = {};
  for (int i = 8; i < 16; ++i) x[i] = static_cast<uint16_t>(0x7F81 + i);  // signalling NaN
  alignas(16) const float cosine[4] = {1, 1, 1, 1}, sine[4] = {};
  const int64_t position = 0;
  for (const int64_t half : {int64_t{4}, int64_t{0}}) {
    RotateJob job;
    job.x = x, job.out = out, job.positions = &position, job.cosine = cosine, job.sine = sine;
    job.rows = 1, job.heads = 1, job.width = 16, job.half = half;
    Launch launch;
    launch.threads = kRotateThreads;
    run_blocks(launch, [&](EmulatedThread& threads) { rotate_heads<uint16_t>(threads, job); });
    for (int i = 8; i < 16; ++i) EXPECT_EQ(out[i], x[i]) << i;
  }
}

}  // namespace
}  // namespace retort
