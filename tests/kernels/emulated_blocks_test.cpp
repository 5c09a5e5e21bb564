// What runs kernels on the CPU notices a missing barrier.
#include "support/emulated_blocks.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

Launch of_order(uint64_t order) {
  Launch launch;
  launch.blocks = 3, launch.threads = 32, launch.shared_bytes = 32 * 4, launch.order = order;
  return launch;
}

// Each thread takes what its mirror image brought, twice.
std::vector<uint32_t> mirrored_twice(const Launch& launch, int64_t& barriers) {
  std::vector<uint32_t> out(static_cast<size_t>(launch.blocks) * 32);
  barriers = run_blocks(launch, [&](EmulatedThread& threads) {
    auto shared = threads.shared<uint32_t>(0, 32);
    const int me = threads.thread();
    auto mine = static_cast<uint32_t>(100 * threads.block() + me);
    for (int round = 0; round < 2; ++round) {
      shared.put(me, mine);
      threads.barrier();
      mine = shared.get(31 - me) + 1;
      threads.barrier();
    }
    out[static_cast<size_t>(32 * threads.block() + me)] = mine;
  });
  return out;
}

TEST(EmulatedBlocks, ThreadsMeetAtBarriersInEveryOrder) {
  for (const uint64_t order : {0, 1, 2, 3}) {
    int64_t barriers = 0;
    const auto out = mirrored_twice(of_order(order), barriers);
    EXPECT_EQ(barriers, 4);
    for (uint32_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], 100 * (i / 32) + i % 32 + 2) << order;
  }
}

TEST(EmulatedBlocks, AMissingBarrierIsAnErrorInEveryOrder) {
  for (const uint64_t order : {0, 1, 2, 3})
    for (int64_t without = 0; without < 3; ++without) {  // nothing follows the last
      auto launch = of_order(order);
      launch.without = without;
      int64_t barriers = 0;
      EXPECT_THROW(mirrored_twice(launch, barriers), std::runtime_error) << order << " " << without;
    }
}

TEST(EmulatedBlocks, AMissingBarrierGivesOtherNumbersInSomeOrder) {
  for (int64_t without = 0; without < 3; ++without) {
    int64_t barriers = 0;
    const auto right = mirrored_twice(of_order(0), barriers);
    bool other = false;
    for (const uint64_t order : {0, 1, 2, 3}) {
      auto launch = of_order(order);
      launch.without = without, launch.watched = false;
      other = other || mirrored_twice(launch, barriers) != right;
    }
    EXPECT_TRUE(other) << without;
  }
}

TEST(EmulatedBlocks, SaysWhoDidWhat) {
  const auto error_of = [](auto body) -> std::string {
    Launch launch;
    launch.threads = 2, launch.shared_bytes = 8;
    try {
      run_blocks(launch, body);
    } catch (const std::runtime_error& error) { return error.what(); }
    return "";
  };
  EXPECT_EQ(error_of([](EmulatedThread& threads) {
              auto shared = threads.shared<uint32_t>(0, 2);
              if (threads.thread() == 0) shared.put(0, 1);
              else shared.get(0);
            }),
            "thread 1 reads byte 0 of shared memory, which thread 0 wrote since the last barrier");
  EXPECT_EQ(error_of([](EmulatedThread& threads) { threads.shared<uint32_t>(0, 2).get(1); }),
            "thread 0 reads byte 4 of shared memory, which nobody wrote");
  EXPECT_EQ(error_of([](EmulatedThread& threads) { threads.shared<uint32_t>(4, 1).put(1, 0); }),
            "outside of a part of shared memory");
  EXPECT_EQ(error_of([](EmulatedThread& threads) {
              if (threads.thread() == 0) threads.barrier();
            }),
            "1 threads ended while others wait at a barrier");
  alignas(16) uint32_t numbers[8] = {};
  EXPECT_EQ(error_of([&](EmulatedThread& threads) { threads.load16(numbers + 1); }),
            "an address that is no multiple of 16");
}

}  // namespace
}  // namespace retort
