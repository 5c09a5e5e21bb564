// AdamW's kernel on the CPU against the loop that trains, bit for bit.
#include <gtest/gtest.h>

#include <limits>

#include "kernels/adamw_body.h"
#include "support/emulated_blocks.h"
#include "train/update_loops.h"

namespace retort {
namespace {

struct Trainable {
  std::vector<Words> weights, sums, first, second;  // at multiples of 16
  int64_t count;

  explicit Trainable(int64_t numbers, uint64_t seed) : count(numbers) {
    const Draws draws(seed, "numbers");
    const auto filled = [&](uint64_t from, bool positive) {
      std::vector<Words> all(static_cast<size_t>(count) / 4 + 2);
      auto* values = floats(all);
      for (int64_t i = 0; i < count; ++i) {
        const double value = draws.normal(from + static_cast<uint64_t>(i));
        values[i] = static_cast<float>(positive ? value * value : value);
      }
      return all;
    };
    weights = filled(0, false), sums = filled(1 << 20, false), first = filled(2 << 20, false);
    second = filled(3 << 20, true);
  }
  static float* floats(std::vector<Words>& words) { return reinterpret_cast<float*>(words.data()); }
  AdamwSlot slot(const UpdateScalars& scalars, bool learns) {
    return {floats(weights), learns ? floats(sums) : nullptr, floats(first), floats(second), count, scalars};
  }
};

UpdateScalars scalars_of(float rate) {
  UpdateScalars s;
  s.share = 0.25f, s.keep = 0.999f, s.rate = rate, s.beta_1 = 0.9f, s.beta_2 = 0.95f;
  s.rest_1 = 0.1f, s.rest_2 = 0.05f, s.second_scale = 3.2f, s.epsilon = 1e-8f;
  return s;
}

std::vector<AdamwChunk> chunks_of(const std::vector<AdamwSlot>& slots) {
  std::vector<AdamwChunk> chunks;
  for (size_t s = 0; s < slots.size(); ++s)
    for (int64_t begin = 0; begin < slots[s].count; begin += kAdamwChunk)
      chunks.push_back({static_cast<int64_t>(s), begin});
  return chunks;
}

bool same_bits(std::vector<Words>& a, std::vector<Words>& b) {
  const auto count = a.size() * 4;
  for (size_t i = 0; i < count; ++i)
    if (bits_of(Trainable::floats(a)[i]) != bits_of(Trainable::floats(b)[i])) return false;
  return true;
}

int64_t run(const AdamwJob& job, Launch launch) {
  launch.threads = kAdamwThreads, launch.shared_bytes = 4 * kAdamwThreads;
  return run_blocks(launch, [&](EmulatedThread& threads) { adamw(threads, job); });
}

TEST(AdamwKernel, UpdatesAllTrainablesAsTheLoopDoes) {
  for (const uint64_t order : {0, 1, 2}) {
    std::vector<Trainable> here, there;
    for (const int64_t count : {1, 4095, 4096, 9001, 40}) {
      here.emplace_back(count, static_cast<uint64_t>(count));
      there.emplace_back(count, static_cast<uint64_t>(count));
    }
    std::vector<AdamwSlot> slots;
    for (size_t i = 0; i < there.size(); ++i)
      slots.push_back(there[i].slot(scalars_of(0.01f * static_cast<float>(i + 1)), i != 4));
    const auto chunks = chunks_of(slots);
    std::vector<uint8_t> finite(chunks.size(), 77);
    Launch launch;
    launch.blocks = 2, launch.order = order;  // several chunks a block
    run({slots.data(), chunks.data(), static_cast<int64_t>(chunks.size()), finite.data()}, launch);
    EXPECT_EQ(finite, std::vector<uint8_t>(chunks.size(), 1));
    for (size_t i = 0; i < here.size(); ++i) {
      const auto slot = here[i].slot(slots[i].scalars, true);
      std::vector<float> nothing(static_cast<size_t>(slot.count));
      adamw_update(slot.weights, i == 4 ? nothing.data() : slot.sums, slot.first, slot.second, slot.count,
                   slot.scalars);
      EXPECT_TRUE(same_bits(here[i].weights, there[i].weights)) << i;
      EXPECT_TRUE(same_bits(here[i].first, there[i].first)) << i;
      EXPECT_TRUE(same_bits(here[i].second, there[i].second)) << i;
    }
  }
}

TEST(AdamwKernel, TellsWhichChunksAreNotFinite) {
  Trainable trainable(3 * kAdamwChunk + 2, 1);
  auto slot = trainable.slot(scalars_of(0.1f), true);
  Trainable::floats(trainable.sums)[kAdamwChunk + 700] = std::numeric_limits<float>::infinity();
  Trainable::floats(trainable.sums)[3 * kAdamwChunk + 1] = std::numeric_limits<float>::quiet_NaN();
  const auto chunks = chunks_of({slot});
  std::vector<uint8_t> finite(chunks.size(), 77);
  run({&slot, chunks.data(), static_cast<int64_t>(chunks.size()), finite.data()}, {});
  EXPECT_EQ(finite, (std::vector<uint8_t>{1, 0, 1, 0}));
}

TEST(AdamwKernel, EachBarrierIsNeeded) {
  Trainable trainable(2 * kAdamwChunk, 1);
  auto slot = trainable.slot(scalars_of(0.1f), true);
  const auto chunks = chunks_of({slot});
  std::vector<uint8_t> finite(chunks.size());
  const AdamwJob job{&slot, chunks.data(), static_cast<int64_t>(chunks.size()), finite.data()};
  const auto barriers = run(job, {});
  EXPECT_EQ(barriers, 2 * 10);
  for (int64_t without = 0; without + 1 < barriers; ++without) {  // nothing follows the last
    Launch launch;
    launch.without = without;
    EXPECT_THROW(run(job, launch), std::runtime_error) << without;
  }
}

}  // namespace
}  // namespace retort
