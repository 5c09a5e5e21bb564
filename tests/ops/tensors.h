// What the tests of operations share: tensors drawn from a seed, and how far one is from a reference.
#pragma once
#include <gtest/gtest.h>

#include <ATen/CPUGeneratorImpl.h>

#include "ops/pass.h"

namespace retort {

// Largest difference in units of the reference's largest magnitude.
inline double distance(const Tensor& ours, const Tensor& reference) {
  EXPECT_EQ(ours.sizes(), reference.sizes());
  return ((ours.to(at::kDouble) - reference).abs().max() / reference.abs().max().clamp_min(1e-12))
      .item<double>();
}

// Standard normal, fp32.
inline Tensor random(std::initializer_list<int64_t> sizes, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  return at::randn(at::IntArrayRef(sizes), generator, at::TensorOptions(at::kFloat));
}

}  // namespace retort
