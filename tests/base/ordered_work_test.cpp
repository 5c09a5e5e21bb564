#include "base/ordered_work.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>

namespace retort {
namespace {

TEST(OrderedWork, ResultsAreTakenInTheOrderOfTheWorkAndFewAreUnderWay) {
  for (const int64_t threads : {1, 2, 4}) {
    std::atomic<int> alive = 0, most = 0;
    std::vector<int> taken;
    {
      OrderedWork work(threads, 6);
      for (int i = 0; i < 400; ++i)
        work.add([&, i]() -> OrderedWork::Later {
          const int now = ++alive;
          for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {}
          if (i % 7 == 0)
            std::this_thread::sleep_for(std::chrono::microseconds(300));  // later ones are done first
          return [&, i] {
            taken.push_back(i);
            --alive;
          };
        });
      work.finish();
    }
    ASSERT_EQ(taken.size(), 400u);
    for (int i = 0; i < 400; ++i) ASSERT_EQ(taken[static_cast<size_t>(i)], i);
    EXPECT_LE(most, 6);
    EXPECT_EQ(alive, 0);
  }
}

TEST(OrderedWork, TheFirstFailureInOrderIsTheOneThatIsThrown) {
  for (const int64_t threads : {1, 4}) {
    int taken = 0;
    std::string failure;
    try {
      OrderedWork work(threads, 64);
      for (int i = 0; i < 50; ++i)
        work.add([&, i]() -> OrderedWork::Later {
          if (i == 10) std::this_thread::sleep_for(std::chrono::milliseconds(5));
          if (i == 10 || i == 20) throw std::runtime_error(std::to_string(i));
          return [&] { ++taken; };
        });
      work.finish();
    } catch (const std::runtime_error& error) { failure = error.what(); }
    EXPECT_EQ(failure, "10");
    EXPECT_EQ(taken, 10);
  }
}

}  // namespace
}  // namespace retort
