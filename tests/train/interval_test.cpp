#include "train/interval.h"

#include <gtest/gtest.h>

#include <vector>

namespace retort {

namespace {

std::vector<int64_t> due(const StepInterval& interval, int64_t steps) {
  std::vector<int64_t> found;
  for (int64_t step = 0; step <= steps; ++step)
    if (interval.due(step)) found.push_back(step);
  return found;
}

}  // namespace

TEST(StepInterval, EachSoManySteps) {
  EXPECT_EQ(due({.every = 4}, 10), (std::vector<int64_t>{4, 8}));
  EXPECT_EQ(due({.every = 0}, 10), std::vector<int64_t>());
  EXPECT_EQ((StepInterval{.every = 4}.times(10)), 2);
}

// Of 10 steps a half are 5, a quarter of them ends within the third, the eighth; every epoch ends with one.
TEST(StepInterval, SoManyTimesInAnEpoch) {
  EXPECT_EQ(due({.per_epoch = 2, .epoch = 10}, 25), (std::vector<int64_t>{5, 10, 15, 20, 25}));
  EXPECT_EQ(due({.per_epoch = 4, .epoch = 10}, 20), (std::vector<int64_t>{3, 5, 8, 10, 13, 15, 18, 20}));
  EXPECT_EQ(due({.every = 3, .per_epoch = 1, .epoch = 10}, 20), (std::vector<int64_t>{10, 20}));
  // More than there are steps: one after each.
  EXPECT_EQ(due({.per_epoch = 9, .epoch = 2}, 3), (std::vector<int64_t>{1, 2, 3}));
}

}  // namespace retort
