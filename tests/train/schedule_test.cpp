#include "train/schedule.h"

#include <gtest/gtest.h>

namespace retort {

TEST(Schedule, LinearWithWarmUpIsAsByHand) {
  const ScheduleSpec spec{.kind = "linear", .warmup_steps = 2};
  const double expected[] = {0.5,  1.0, 1.0,
                             0.75, 0.5, 0.25};  // 6 steps: two up, then 4 steps down from 1 by quarters
  for (int64_t step = 0; step < 6; ++step)
    EXPECT_DOUBLE_EQ(schedule_share(spec, step, 6), expected[step]) << step;
}

// 3 % of 100 steps are 3, 0.07 of them 7 (not 8, which the binary fraction would round up to), and of 10
// steps a share of 0.15 is two.
TEST(Schedule, AWarmUpMayBeAShareOfTheSteps) {
  const auto as_steps = [](double share, int64_t steps, int64_t warmup) {
    const ScheduleSpec by_share{.kind = "linear", .warmup_share = share};
    const ScheduleSpec by_steps{.kind = "linear", .warmup_steps = warmup};
    for (int64_t step = 0; step < steps; ++step)
      EXPECT_DOUBLE_EQ(schedule_share(by_share, step, steps), schedule_share(by_steps, step, steps))
          << share << " of " << steps << ", step " << step;
  };
  as_steps(0.03, 100, 3);
  as_steps(0.07, 100, 7);
  as_steps(0.15, 10, 2);
  as_steps(0, 10, 0);
  as_steps(1, 10, 10);
  EXPECT_DOUBLE_EQ(schedule_share({.kind = "constant", .warmup_share = 0.04}, 0, 100), 0.25);
}

TEST(Schedule, CosineEndsAtTheFinalShare) {
  const ScheduleSpec spec{.kind = "cosine", .final_share = 0.1};
  EXPECT_DOUBLE_EQ(schedule_share(spec, 0, 4), 1.0);
  EXPECT_NEAR(schedule_share(spec, 1, 4), 0.1 + 0.9 * 0.8535533905932737, 1e-12);  // (1 + cos 45) / 2
  EXPECT_NEAR(schedule_share(spec, 2, 4), 0.55, 1e-12);
  EXPECT_NEAR(schedule_share(spec, 4, 4), 0.1, 1e-12);
}

TEST(Schedule, WsdIsFlatAndThenFallsInItsLastShare) {
  const ScheduleSpec spec{.kind = "wsd", .warmup_steps = 1, .decay_share = 0.4};
  const double expected[] = {1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25};  // the last 4 of 10 steps decay
  for (int64_t step = 0; step < 10; ++step)
    EXPECT_DOUBLE_EQ(schedule_share(spec, step, 10), expected[step]) << step;
}

TEST(Schedule, ConstantOnlyWarmsUp) {
  const ScheduleSpec spec{.kind = "constant", .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(schedule_share(spec, 0, 100), 0.25);
  EXPECT_DOUBLE_EQ(schedule_share(spec, 99, 100), 1.0);
}

}  // namespace retort
