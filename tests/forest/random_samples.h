// Samples of random tokens for the tiny models of tests/golden/models.
#pragma once
#include <fmt/format.h>

#include <string>
#include <vector>

#include "base/random.h"
#include "forest/samples.h"

namespace retort {

// Each of so many tokens from 3 to 92, of which the first are not supervised.
inline std::vector<Sample> random_samples(const Draws& draws, size_t count, uint64_t tokens,
                                          uint64_t unsupervised = 0) {
  std::vector<Sample> samples(count);
  for (size_t s = 0; s < count; ++s) {
    samples[s].id = fmt::format("f:{}", s);
    for (uint64_t i = 0; i < tokens; ++i) {
      samples[s].tokens.push_back(static_cast<int32_t>(3 + draws.below(s * 100 + i, 90)));
      samples[s].weights.push_back(i < unsupervised ? 0 : 1);
    }
  }
  return samples;
}

}  // namespace retort
