// Work of which a device has one piece at a time.
#include "ops/workers.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace retort {
namespace {

TEST(RunInTurn, OneThreadHasAllPiecesInOrderAndEveryInnerThread) {
  std::vector<int64_t> order;
  std::set<std::thread::id> threads;
  std::set<int> inner;
  run_in_turn(3, 5, [&](int64_t i) {
    order.push_back(i);
    threads.insert(std::this_thread::get_id());
    inner.insert(at::get_num_threads());
  });
  EXPECT_EQ(order, (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(threads.size(), 1u);
  EXPECT_EQ(inner, std::set<int>{3});
  run_in_turn(3, 0, [](int64_t i) { ADD_FAILURE() << "piece " << i << " of none"; });
}

TEST(RunInTurn, NothingComesAfterAnError) {
  int64_t last = -1;
  const auto work = [&](int64_t i) {
    last = i;
    if (i == 2) throw std::runtime_error("the third");
  };
  EXPECT_THROW(run_in_turn(2, 5, work), std::runtime_error);
  EXPECT_EQ(last, 2);
}

}  // namespace
}  // namespace retort
