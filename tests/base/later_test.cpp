#include "base/later.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>

namespace retort {
namespace {

TEST(Later, IsWorkedOutOnceAndOnlyWhereSomebodyAsks) {
  std::atomic<int> runs = 0;
  {
    const auto nobody_asks = Later<int>::of([&] { return ++runs; });
  }
  EXPECT_EQ(runs, 0);
  const auto later = Later<int>::of([&] { return ++runs; });
  const auto copy = later;
  later.begin();
  EXPECT_EQ(copy.get(), 1);
  EXPECT_EQ(later.get(), 1);
  EXPECT_EQ(Later<int>(7).get(), 7);
}

TEST(Later, ThrowsWhatTheWorkThrew) {
  const auto later = Later<int>::of([]() -> int { throw std::runtime_error("unreadable"); });
  later.begin();
  EXPECT_THROW(later.get(), std::runtime_error);
  EXPECT_THROW(later.get(), std::runtime_error);
}

}  // namespace
}  // namespace retort
