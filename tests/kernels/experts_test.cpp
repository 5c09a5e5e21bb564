// Tokens by expert and back on the CPU: the order of a stable sort, rows as they were, and sums to the bit of
// the CPU's (ops/route.cpp), in any order of threads.
#include "kernels/experts_body.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "support/emulated_blocks.h"

namespace retort {
namespace {

Launch of_order(uint64_t order, int64_t blocks, int shared) {
  Launch launch;
  launch.blocks = blocks, launch.threads = kExpertThreads, launch.shared_bytes = shared, launch.order = order;
  return launch;
}

struct Sorted {
  std::vector<int32_t> before, starts, order, places;
  SortJob job;
  Sorted(const std::vector<int32_t>& expert, int64_t experts)
      : starts(static_cast<size_t>(experts) + 1, -1), order(expert.size(), -1), places(expert.size(), -1) {
    job.expert = expert.data(), job.slots = static_cast<int64_t>(expert.size()), job.experts = experts;
    before.assign(static_cast<size_t>(experts * job.tiles()), -1);
    job.before = before.data(), job.starts = starts.data(), job.order = order.data();
    job.places = places.data();
  }
  void run(uint64_t order_of_threads, int64_t blocks = 2) {
    run_blocks(of_order(order_of_threads, blocks, kSortShared),
               [&](EmulatedThread& threads) { count_slots(threads, job); });
    run_blocks(of_order(order_of_threads, 1, kScanShared),
               [&](EmulatedThread& threads) { scan_counts(threads, job); });
    run_blocks(of_order(order_of_threads, blocks, kSortShared),
               [&](EmulatedThread& threads) { place_slots(threads, job); });
  }
};

// Each token's choices in rising order of expert, some experts without any.
std::vector<int32_t> some_choices(int64_t tokens, int64_t each, int64_t experts) {
  const Draws draws(5, "experts");
  std::vector<int32_t> all;
  for (int64_t n = 0; n < tokens; ++n) {
    std::vector<int32_t> some;
    for (uint64_t i = 0; static_cast<int64_t>(some.size()) < each; ++i) {
      const auto e = static_cast<int32_t>(
          draws.below(static_cast<uint64_t>(n) << 20 | i, static_cast<uint64_t>(experts)));
      if (e % 7 != 3 && std::find(some.begin(), some.end(), e) == some.end()) some.push_back(e);
    }
    std::sort(some.begin(), some.end());
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

TEST(ExpertKernels, SortAsAStableSortDoes) {
  for (const auto& [tokens, each, experts] : std::vector<std::array<int64_t, 3>>{
           {1, 1, 1}, {5, 2, 8}, {1025, 3, 40}, {512, 8, 128}, {700, 4, 300}, {341, 3, 257}}) {
    SCOPED_TRACE(testing::Message() << tokens << " tokens to " << each << " of " << experts);
    const auto expert = some_choices(tokens, each, experts);
    std::vector<int32_t> order(expert.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return expert[static_cast<size_t>(a)] < expert[static_cast<size_t>(b)];
    });
    for (const uint64_t threads : {0, 1, 2}) {
      Sorted sorted(expert, experts);
      sorted.run(threads);
      ASSERT_EQ(sorted.order, order) << threads;
      for (size_t i = 0; i < order.size(); ++i)
        ASSERT_EQ(sorted.places[static_cast<size_t>(order[i])], static_cast<int32_t>(i));
      for (int32_t e = 0; e <= experts; ++e)
        ASSERT_EQ(sorted.starts[static_cast<size_t>(e)],
                  std::count_if(expert.begin(), expert.end(), [&](int32_t other) { return other < e; }))
            << e;
    }
  }
}

// Slots 0 to 5 of experts 2 0 2 1 0 2: those of 0 are 1 and 4, of 1 is 3, of 2 are 0, 2 and 5.
TEST(ExpertKernels, SortSixSlotsByHand) {
  const std::vector<int32_t> expert{2, 0, 2, 1, 0, 2};
  Sorted sorted(expert, 4);
  sorted.run(2);
  EXPECT_EQ(sorted.order, (std::vector<int32_t>{1, 4, 3, 0, 2, 5}));
  EXPECT_EQ(sorted.places, (std::vector<int32_t>{3, 0, 4, 2, 1, 5}));
  EXPECT_EQ(sorted.starts, (std::vector<int32_t>{0, 2, 3, 6, 6}));
}

TEST(ExpertKernels, EachBarrierOfTheSortIsNeeded) {
  const auto expert = some_choices(1100, 2, 20);  // three tiles
  const auto expect_needed = [](int64_t barriers, auto&& run) {
    for (int64_t without = 0; without < barriers; ++without)
      EXPECT_THROW(run(without), std::runtime_error) << without;
  };
  for (const uint64_t threads : {0, 1, 2}) {
    Sorted sorted(expert, 20);
    const auto count = [&](int64_t without) {
      auto launch = of_order(threads, 1, kSortShared);
      launch.without = without;
      return run_blocks(launch, [&](EmulatedThread& thread) { count_slots(thread, sorted.job); });
    };
    const auto scan = [&](int64_t without) {
      auto launch = of_order(threads, 1, kScanShared);
      launch.without = without;
      return run_blocks(launch, [&](EmulatedThread& thread) { scan_counts(thread, sorted.job); });
    };
    const auto place = [&](int64_t without) {
      auto launch = of_order(threads, 1, kSortShared);
      launch.without = without;
      return run_blocks(launch, [&](EmulatedThread& thread) { place_slots(thread, sorted.job); });
    };
    EXPECT_EQ(count(-1), 5) << "before each tile but the first, and after its experts are there";
    EXPECT_EQ(scan(-1), 17) << "two a doubling, and one before the end";
    EXPECT_EQ(place(-1), 5);
    expect_needed(5, count);
    expect_needed(17, scan);
    expect_needed(5, place);
  }
}

template <class Number> void expect_rows(int64_t width) {
  constexpr int64_t kTokens = 9, kEach = 3, kExperts = 8, kFrozen = 5;
  const auto expert = some_choices(kTokens, kEach, kExperts);
  Sorted sorted(expert, kExperts);
  sorted.run(0);
  const Draws draws(8, "rows");
  const auto numbers = [&](int64_t rows, uint64_t from) {
    std::vector<Words> all(static_cast<size_t>(rows * width) * sizeof(Number) / 16 + 2);
    for (int64_t i = 0; from > 0 && i < rows * width; ++i)
      narrow_to(reinterpret_cast<Number*>(all.data())[i],
                static_cast<float>(draws.normal(from + static_cast<uint64_t>(i))));
    return all;
  };
  const auto of = [](const std::vector<Words>& all) { return reinterpret_cast<const Number*>(all.data()); };
  const auto x = numbers(kTokens, 1);
  std::vector<std::vector<Words>> parts;
  std::vector<const void*> addresses(kExperts);
  for (int64_t e = 0; e < kExperts; ++e) {
    parts.push_back(numbers(kTokens, static_cast<uint64_t>(e + 1) << 20));
    if (e != kFrozen) addresses[static_cast<size_t>(e)] = parts.back().data();
  }
  ASSERT_NE(std::count(expert.begin(), expert.end(), kFrozen), 0) << "the expert whose rows are zero";
  RowsJob job;
  job.tokens = kTokens, job.each = kEach, job.width = width, job.order = sorted.order.data();
  job.expert = expert.data(), job.places = sorted.places.data(), job.starts = sorted.starts.data();
  job.parts = addresses.data();
  for (const uint64_t threads : {0, 1, 2}) {
    auto there = numbers(kTokens * kEach, 0), back = numbers(kTokens, 0);
    job.x = x.data(), job.out = there.data();
    run_blocks(of_order(threads, 2, 0),
               [&](EmulatedThread& thread) { rows_to_experts<Number>(thread, job); });
    for (int64_t row = 0; row < kTokens * kEach; ++row)
      for (int64_t i = 0; i < width; ++i)
        ASSERT_EQ(of(there)[row * width + i],
                  of(x)[sorted.order[static_cast<size_t>(row)] / kEach * width + i]);
    EXPECT_EQ(of(there)[kTokens * kEach * width], Number{}) << "wrote beyond the end";
    job.out = back.data();
    run_blocks(of_order(threads, 2, 0), [&](EmulatedThread& thread) { sum_of_experts<Number>(thread, job); });
    for (int64_t n = 0; n < kTokens; ++n)
      for (int64_t i = 0; i < width; ++i) {
        float sum = 0;
        for (auto slot = static_cast<size_t>(n * kEach); slot < static_cast<size_t>((n + 1) * kEach);
             ++slot) {
          const auto e = expert[slot];
          if (e == kFrozen) continue;
          const auto row = std::count(expert.begin(), expert.begin() + static_cast<int64_t>(slot), e);
          sum += as_float(of(parts[static_cast<size_t>(e)])[row * width + i]);
        }
        Number rounded;
        narrow_to(rounded, sum);
        ASSERT_EQ(of(back)[n * width + i], rounded) << n << " " << i;
      }
    EXPECT_EQ(of(back)[kTokens * width], Number{}) << "wrote beyond the end";
  }
}

TEST(ExpertKernels, RowsGoToExpertsAndComeBackAsTheCpuSums) {
  for (const int64_t width : {1, 8, 33, 2056}) {
    SCOPED_TRACE(width);
    expect_rows<float>(width);
    expect_rows<uint16_t>(width);
  }
}

}  // namespace
}  // namespace retort
