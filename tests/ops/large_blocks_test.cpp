#include "ops/large_blocks.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <new>
#include <thread>
#include <vector>

#include "base/random.h"

namespace retort {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

TEST(LargeBlocks, WhatIsFreedIsTakenAgain) {
  LargeBlocks blocks;
  auto* const first = blocks.take(3 * kMiB);
  std::memset(first, 1, 3 * kMiB);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  auto* const second = blocks.take(kMiB);
  EXPECT_TRUE(blocks.give_back(first));
  EXPECT_EQ(blocks.take(3 * kMiB), first);
  int other = 0;
  EXPECT_FALSE(blocks.give_back(&other));
  EXPECT_TRUE(blocks.give_back(first));
  EXPECT_TRUE(blocks.give_back(second));
  EXPECT_EQ(blocks.usage().live, 0u);
  EXPECT_EQ(blocks.take(4 * kMiB), first);  // neighbours became one
}

// Sizes as a training has them, freed in another order than they were taken: what stays resident is bound by
// what was in use together, and nobody writes into another's block.
TEST(LargeBlocks, HoldLessThanTwiceWhatWasInUse) {
  LargeBlocks blocks;
  const Draws draws(3, "sizes");
  struct Block {
    unsigned char* data;
    size_t bytes;
    unsigned char mark;
  };
  std::vector<Block> live;
  uint64_t draw = 0;
  for (int round = 0; round < 4000; ++round) {
    const bool grow = live.size() < 20 || (live.size() < 60 && draws.bits(draw++) % 2 == 0);
    if (grow) {
      const auto bytes = size_t{70000} + draws.bits(draw++) % (2 * kMiB);
      const auto mark = static_cast<unsigned char>(round);
      live.push_back({static_cast<unsigned char*>(blocks.take(bytes)), bytes, mark});
      std::memset(live.back().data, mark, bytes);
    } else {
      const auto which = draws.bits(draw++) % live.size();
      const auto [data, bytes, mark] = live[which];
      ASSERT_EQ(data[0], mark);
      ASSERT_EQ(data[bytes / 2], mark);
      ASSERT_EQ(data[bytes - 1], mark);
      ASSERT_TRUE(blocks.give_back(data));
      live[which] = live.back();
      live.pop_back();
    }
    const auto usage = blocks.usage();
    ASSERT_LE(usage.resident, 2 * usage.most);
  }
  for (const auto& block : live) EXPECT_TRUE(blocks.give_back(block.data));
  blocks.release();
  EXPECT_EQ(blocks.usage().live, 0u);
  EXPECT_LE(blocks.usage().resident, kMiB);
}

// Where addresses are limited, many small regions would be used up while there is memory.
TEST(LargeBlocks, ALimitOnAddressesIsUsedUpInPiecesThatHalve) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers need the addresses";
#endif
  const auto limited = [] {
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlimit limit{pages * 4096 + 700 * kMiB, RLIM_INFINITY};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) std::_Exit(2);
    LargeBlocks blocks;
    try {
      for (int i = 0; i < 3000; ++i) blocks.take(100000);
    } catch (const std::bad_alloc&) { std::_Exit(1); }
    std::_Exit(0);
  };
  EXPECT_EXIT(limited(), testing::ExitedWithCode(0), "");
}

TEST(LargeBlocks, ThreadsShareThem) {
  LargeBlocks blocks;
  std::vector<std::thread> threads;
  for (unsigned char t = 1; t <= 4; ++t)
    threads.emplace_back([&blocks, t] {
      for (size_t i = 0; i < 300; ++i) {
        const auto bytes = 70000 + 1000 * i;
        auto* const data = static_cast<unsigned char*>(blocks.take(bytes));
        std::memset(data, t, bytes);
        EXPECT_EQ(data[bytes - 1], t);
        EXPECT_EQ(data[0], t);
        EXPECT_TRUE(blocks.give_back(data));
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(blocks.usage().live, 0u);
}

}  // namespace
}  // namespace retort
