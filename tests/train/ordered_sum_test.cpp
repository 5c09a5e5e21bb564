#include "train/ordered_sum.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "base/random.h"

namespace retort {
namespace {

Tensor leaf(int64_t rows) { return at::zeros({rows, 2}).requires_grad_(); }
Tensor filled(const Tensor& like, double value) { return at::full(like.sizes(), value); }
double value_of(const Tensor& sum) { return sum.defined() ? sum[0][0].item<double>() : -1; }

}  // namespace

TEST(OrderedSum, AWeightsGradientIsAddedWhenThoseOfTheForestsBeforeAre) {
  const std::vector<Tensor> leaves = {leaf(3), leaf(1)};
  StepSums sums;
  OrderedSum sum(sums, leaves, 4);
  OrderedSum::OfForest zeroth(sum, 0), first(sum, 1), second(sum, 2);
  EXPECT_TRUE(first.take(leaves[0], filled(leaves[0], 10)));
  EXPECT_FALSE(sums.gradients[0].defined());
  EXPECT_TRUE(zeroth.take(leaves[0], filled(leaves[0], 1)));
  EXPECT_EQ(value_of(sums.gradients[0]), 11);  // before either has ended
  EXPECT_TRUE(second.take(leaves[1], filled(leaves[1], 100)));
  sum.finish(zeroth, {}, 1, 2);  // brings nothing for the other weight
  EXPECT_FALSE(sums.gradients[1].defined());
  sum.finish(first, {Tensor(), filled(leaves[1], 7)}, 10, 20);
  EXPECT_EQ(value_of(sums.gradients[1]), 107);
  sum.finish(second, {}, 100, 200);
  sum.close();
  EXPECT_EQ(sums.forests, 3);
  EXPECT_EQ(sums.nats, 111);
  EXPECT_EQ(sums.weight, 222);
  EXPECT_EQ(value_of(sums.gradients[0]), 11);
}

TEST(OrderedSum, AnEmbeddingsRowsFollowItsHead) {
  const std::vector<Tensor> leaves = {leaf(3)};
  const RowGradient rows{leaves[0], at::tensor({2, 0, 2}, at::kLong), at::ones({3, 2}), 0.5};
  const ProductGradient head{leaves[0], at::tensor({1.0, 0.0, 2.0}, at::kFloat).view({1, 3}),
                             at::tensor({8.0, 16.0}, at::kFloat).view({1, 2}), 0.25};
  const auto sum_with = [&](bool with_head) {
    StepSums sums;
    OrderedSum sum(sums, leaves, 2);
    OrderedSum::OfForest forest(sum, 0);
    EXPECT_TRUE(forest.take_rows(rows));
    EXPECT_THROW(forest.take_rows(rows), std::logic_error);
    EXPECT_FALSE(
        forest.take_rows({leaf(3), rows.tokens, rows.rows, 1}));  // a matrix that is not learned here
    EXPECT_FALSE(forest.take_product({leaf(3), head.dz, head.x, 1}));
    EXPECT_EQ(with_head && forest.take_product(head), with_head);
    sum.finish(forest, {filled(leaves[0], 4)}, 0, 1);
    sum.close();
    return sums.gradients[0];
  };
  EXPECT_TRUE(sum_with(false).equal(at::tensor({4.5, 4.5, 4.0, 4.0, 5.0, 5.0}, at::kFloat).view({3, 2})));
  EXPECT_TRUE(sum_with(true).equal(at::tensor({6.5, 8.5, 4.0, 4.0, 9.0, 13.0}, at::kFloat).view({3, 2})));
}

TEST(OrderedSum, RefusesASecondGradientOfAPassAndLeavesOthersToTheGraph) {
  const std::vector<Tensor> leaves = {leaf(3)};
  StepSums sums;
  OrderedSum sum(sums, leaves, 2);
  OrderedSum::OfForest zeroth(sum, 0), first(sum, 1);
  EXPECT_FALSE(zeroth.take(leaf(3), filled(leaves[0], 1)));
  EXPECT_TRUE(zeroth.take(leaves[0], filled(leaves[0], 1)));
  EXPECT_THROW(zeroth.take(leaves[0], filled(leaves[0], 1)), std::logic_error);
  EXPECT_TRUE(first.take(leaves[0], filled(leaves[0], 1)));
  EXPECT_THROW(sum.finish(first, {filled(leaves[0], 1)}, 0, 1), std::logic_error);
}

// Forest 1 never comes: what 2 has brought is in no sum, whatever it waited for.
TEST(OrderedSum, EndsWithTheForestsBeforeTheOneThatDoesNotCome) {
  const std::vector<Tensor> leaves = {leaf(3)};
  StepSums sums{{filled(leaves[0], 5)}, 3, 4, 2};  // two were summed before
  OrderedSum sum(sums, leaves, 1);
  OrderedSum::OfForest second(sum, 2), fourth(sum, 4), fifth(sum, 5);
  EXPECT_TRUE(fourth.take(leaves[0], filled(leaves[0], 1000)));
  sum.finish(fourth, {}, 1000, 1000);
  std::thread waits(
      [&] { sum.finish(fifth, {filled(leaves[0], 1000)}, 1000, 1000); });  // one may wait, not two
  sum.end();
  waits.join();
  EXPECT_TRUE(second.take(leaves[0], filled(leaves[0], 1)));
  sum.finish(second, {}, 1, 1);
  sum.close();
  EXPECT_EQ(sums.forests, 3);
  EXPECT_EQ(value_of(sums.gradients[0]), 6);
  EXPECT_EQ(sums.nats, 4);
  EXPECT_EQ(sums.weight, 5);
}

TEST(OrderedSum, ManyThreadsGiveTheBitsOfOne) {
  std::vector<Tensor> leaves;
  for (int i = 0; i < 5; ++i) leaves.push_back(leaf(4));
  constexpr int64_t kForests = 60;
  const Draws draws(1, "ordered sum");
  const auto gradient = [&](int64_t forest, size_t i) {
    return filled(leaves[i], static_cast<double>(draws.uniform(static_cast<uint64_t>(forest) * 10 + i)) *
                                 std::pow(10.0, static_cast<double>(draws.below(
                                                    static_cast<uint64_t>(forest) * 10 + i + 5000, 8))));
  };
  const auto brings = [&](int64_t forest, size_t i) {
    return draws.below(static_cast<uint64_t>(forest) * 10 + i + 9000, 4) > 0;
  };
  const auto run = [&](size_t threads) {
    StepSums sums;
    OrderedSum sum(sums, leaves, static_cast<int64_t>(threads));
    std::atomic<int64_t> next = 0;
    std::vector<std::thread> workers;
    for (size_t t = 0; t < threads; ++t)
      workers.emplace_back([&] {
        for (int64_t forest = next++; forest < kForests; forest = next++) {
          OrderedSum::OfForest brought(sum, forest);
          for (size_t i = leaves.size(); i-- > 1;)
            if (brings(forest, i)) brought.take(leaves[i], gradient(forest, i));
          sum.finish(brought, {gradient(forest, 0)}, 0.1 * static_cast<double>(forest), 1);
        }
      });
    for (auto& worker : workers) worker.join();
    sum.close();
    EXPECT_EQ(sums.forests, kForests);
    return sums;
  };
  const auto reference = run(1);
  for (const size_t threads : {2, 3, 8}) {
    const auto sums = run(threads);
    EXPECT_EQ(sums.nats, reference.nats);
    for (size_t i = 0; i < leaves.size(); ++i)
      EXPECT_TRUE(sums.gradients[i].equal(reference.gradients[i])) << threads << " " << i;
  }
}

// (2^24 + 1) + 1 is 2^24 in fp32, and 2^24 + (1 + 1) is not: the sums from elsewhere come first.
TEST(OrderedSum, WaitsForTheSumsOfForestsBeforeFromAnotherProcess) {
  const std::vector<Tensor> leaves = {leaf(3)};
  StepSums sums;
  sums.forests = 2;
  OrderedSum sum(sums, leaves, 2, OrderedSum::Start::when_told);
  OrderedSum::OfForest second(sum, 2), third(sum, 3);
  EXPECT_TRUE(third.take(leaves[0], filled(leaves[0], 1)));
  sum.finish(third, {}, 1, 10);
  EXPECT_TRUE(second.take(leaves[0], filled(leaves[0], 1)));
  sum.finish(second, {}, 1, 10);
  EXPECT_FALSE(sums.gradients[0].defined());
  EXPECT_EQ(sums.nats, 0);
  sums = {{filled(leaves[0], 16777216)}, 5, 6, 2};
  sum.start();
  sum.close();
  EXPECT_EQ(sums.forests, 4);
  EXPECT_EQ(value_of(sums.gradients[0]), 16777216);
  EXPECT_EQ(sums.nats, 7);
  EXPECT_EQ(sums.weight, 26);
}

}  // namespace retort
