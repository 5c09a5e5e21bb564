#include "data/packed_samples.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace retort {

TEST(PackedSamples, GiveBackWhatWasAdded) {
  constexpr int32_t kLast = (1 << 23) - 1;
  const Draws draws(1, "packed samples");
  std::vector<Sample> samples = {{{0, kLast, 255, 256, 65535, 65536}, {0, 1, 1, 0, 1, 0}, "a.jsonl:1"},
                                 {{}, {}, ""}};
  for (uint64_t s = 0; s < 40; ++s) {  // over more than one block
    auto& sample = samples.emplace_back(Sample{{}, {}, "b.jsonl:" + std::to_string(s)});
    for (uint64_t i = 0; i < 70'000; ++i) {
      const auto bits = draws.bits(s * 100'000 + i);
      sample.tokens.push_back(static_cast<int32_t>(bits & kLast)),
          sample.weights.push_back(static_cast<float>(bits >> 63));
    }
  }
  PackedSamples packed;
  for (const auto& sample : samples) packed.add(sample);
  ASSERT_EQ(packed.size(), samples.size());
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto found = packed.read(i);
    EXPECT_EQ(packed.tokens(i), static_cast<int64_t>(samples[i].tokens.size()));
    EXPECT_EQ(found.tokens, samples[i].tokens) << i;
    EXPECT_EQ(found.weights, samples[i].weights) << i;
    EXPECT_EQ(found.id, samples[i].id);
  }
}

TEST(PackedSamples, RefuseWhatTheyCannotHold) {
  PackedSamples packed;
  EXPECT_THROW(packed.add({{1 << 23}, {1}, "x"}), std::logic_error);
  EXPECT_THROW(packed.add({{-1}, {1}, "x"}), std::logic_error);
  EXPECT_THROW(packed.add({{5}, {0.5f}, "x"}), std::logic_error);
  EXPECT_THROW(packed.add({{5, 6}, {1}, "x"}), std::logic_error);
}

}  // namespace retort
