#include "plan/rank_plan.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

// 8 forests on 2 threads: 4 rounds of 10 s. 25 million numbers are a message of 100 MB.
LoneStep eight_forests() {
  return {.forests = 8,
          .threads = 2,
          .seconds = 40,
          .undivided_seconds = 1,
          .tokens = 31000,
          .trainable_elements = 25'000'000};
}

// A message is half a second underway and takes a second on the link; its bytes are read or written in 0.25
// s.
RankMachine machine(int64_t ranks, int64_t threads = 2, uint64_t memory = uint64_t{1} << 40) {
  return {.name = "m",
          .ranks = ranks,
          .threads = threads,
          .memory = memory,
          .link = 1e8,
          .latency = 0.5,
          .copying = 4e8};
}

}  // namespace

TEST(RankPlan, ARankKeepsTheGradientsOfItsPartAndTwoCopiesOfTheSums) {
  EXPECT_EQ(sums_of_rank(0, 1, 10, 1000), 0u);
  EXPECT_EQ(sums_of_rank(0, 4, 10, 1000), 4000u);            // the message that it sends
  EXPECT_EQ(sums_of_rank(3, 4, 10, 1000), (3 + 2) * 4000u);  // 10 forests over 4 ranks: 3 at most
  EXPECT_EQ(sums_of_rank(1, 2, 10, 1000), (5 + 2) * 4000u);
}

TEST(RankPlan, OneRankTakesWhatItTakesAlone) {
  const auto plan = plan_ranks(eight_forests(), {machine(1)}, {.own = 1000, .shared = 500});
  EXPECT_DOUBLE_EQ(plan.seconds, 41);
  EXPECT_DOUBLE_EQ(plan.tokens_per_second, 31000.0 / 41);
  EXPECT_DOUBLE_EQ(plan.speed_up, 1);
  EXPECT_EQ(plan.moved, 0);
  ASSERT_EQ(plan.machines.size(), 1u);
  EXPECT_EQ(plan.machines[0].memory, 1500u);
  EXPECT_DOUBLE_EQ(plan.machines[0].computing, 41);
  EXPECT_DOUBLE_EQ(plan.machines[0].sums + plan.machines[0].waiting, 0);
}

// Both compute 4 forests in 20 s. Rank 0 gathers its message (2 x 0.25 s) and sends it: 20.5 + 2 x 0.5 + 1 =
// 22.5 s. Rank 1 takes the numbers out (0.5) and adds four forests (4 x 0.75): 26 s; gathers, sends
// back: 28.5 s. Rank 0 takes them out: 29 s. The update is 1 s, the word of all ranks 0.5 s to rank 0 and 0.5
// s back.
TEST(RankPlan, SumsGoAlongTheChainAndBack) {
  const auto plan = plan_ranks(eight_forests(), {machine(1), machine(1)}, {.own = 1000, .shared = 500});
  EXPECT_DOUBLE_EQ(plan.seconds, 31);
  EXPECT_DOUBLE_EQ(plan.speed_up, 41.0 / 31);
  EXPECT_DOUBLE_EQ(plan.efficiency(), 41.0 / 62);
  EXPECT_DOUBLE_EQ(plan.tokens_per_second, 1000);
  EXPECT_DOUBLE_EQ(plan.moved, 2e8);
  ASSERT_EQ(plan.machines.size(), 2u);
  const auto &first = plan.machines[0], &second = plan.machines[1];
  EXPECT_DOUBLE_EQ(first.computing, 21);
  EXPECT_DOUBLE_EQ(first.sums, 0.5 + 2 + 2 + 0.5);
  EXPECT_DOUBLE_EQ(first.waiting, 31 - 21 - 5);
  EXPECT_DOUBLE_EQ(second.sums, 2 + 0.5 + 3 + 0.5 + 2);
  EXPECT_DOUBLE_EQ(second.waiting, 31 - 21 - 8);
  for (const auto* one : {&first, &second}) {
    EXPECT_DOUBLE_EQ(one->sent, 1e8);
    EXPECT_DOUBLE_EQ(one->received, 1e8);
  }
  EXPECT_EQ(first.memory, 1500u + 100'000'000);
  EXPECT_EQ(second.memory, 1500u + (4 + 2) * 100'000'000ull);
}

// Through memory a message takes 2 x 0.5 + 2 x 0.25 = 1.5 s instead of 2, twice.
TEST(RankPlan, RanksOfOneMachineSendThroughMemoryAndShareTheBase) {
  const auto plan = plan_ranks(eight_forests(), {machine(2, 4)}, {.own = 1000, .shared = 500});
  EXPECT_DOUBLE_EQ(plan.seconds, 30);
  ASSERT_EQ(plan.machines.size(), 1u);
  EXPECT_EQ(plan.machines[0].memory, 2 * 1000u + 500 + (1 + 4 + 2) * 100'000'000ull);
  EXPECT_EQ(plan.machines[0].sent + plan.machines[0].received, 0);
  EXPECT_DOUBLE_EQ(plan.machines[0].sums, (4 + 7) / 2.0);
  // On 2 cores their 4 threads take turns: 40 s of computing instead of 20.
  EXPECT_DOUBLE_EQ(plan_ranks(eight_forests(), {machine(2, 2)}, {}).seconds, 50);
}

// 3 ranks of 8 forests have 2, 3 and 3: ready after 10, 20 and 20 s. Rank 0 has its message at 10.5 and waits
// for rank 1 until 20: there at 22, out at 22.5, three forests added at 24.75, gathered at 25.25, at rank 2
// at 27.25, whole at 30. Gathered at 30.5; to rank 1 until 32.5, then to rank 0 until 34.5, out at 35. Update
// 1 s, word 2 x 0.5 and two levels of 0.5.
TEST(RankPlan, TheLastRankGivesTheSumsToAllAlongATree) {
  const auto plan = plan_ranks(eight_forests(), {machine(1), machine(1), machine(1)}, {});
  EXPECT_DOUBLE_EQ(plan.seconds, 38);
  EXPECT_DOUBLE_EQ(plan.machines[0].computing, 11);
  EXPECT_DOUBLE_EQ(plan.machines[0].sums, 0.5 + 2 + 2 + 0.5);
  EXPECT_DOUBLE_EQ(plan.machines[1].sums, 2 + 0.5 + 2.25 + 0.5 + 2 + 2 + 0.5);
  EXPECT_DOUBLE_EQ(plan.machines[2].sums, 2 + 0.5 + 2.25 + 0.5 + 2 + 2);
  EXPECT_DOUBLE_EQ(plan.machines[1].sent, 1e8);
  EXPECT_DOUBLE_EQ(plan.machines[1].received, 2e8);
  EXPECT_DOUBLE_EQ(plan.machines[2].sent, 2e8);
  EXPECT_DOUBLE_EQ(plan.moved, 4e8);
}

// Machines a and b of two ranks each: sums leave a once and come back twice, one message after the other,
// since both are on the same link.
TEST(RankPlan, MessagesOfAMachineTakeTurnsOnItsLink) {
  auto step = eight_forests();
  step.forests = 4, step.threads = 1, step.undivided_seconds = 0;
  const auto plan = plan_ranks(step, {machine(2), machine(2)}, {});
  ASSERT_EQ(plan.machines.size(), 2u);
  EXPECT_EQ(plan.machines[1].first, 2);
  EXPECT_DOUBLE_EQ(plan.machines[0].sent, 1e8 * 2);      // rank 1 to 2; of the tree, rank 1 to 2
  EXPECT_DOUBLE_EQ(plan.machines[0].received, 1e8 * 2);  // rank 3 to 1 and to 0
  EXPECT_DOUBLE_EQ(plan.seconds, 25.25 + 2.5);
}

TEST(RankPlan, TheBestNumberOfRanksStopsWhereSumsCostMoreThanTheySave) {
  const std::vector<RankMachine> four(4, machine(0));
  const auto best = best_ranks(eight_forests(), four, {});
  ASSERT_TRUE(best);
  double least = 41;
  int64_t ranks = 1;
  for (int64_t count = 2; count <= 4; ++count) {
    const auto seconds =
        plan_ranks(eight_forests(), std::vector<RankMachine>(static_cast<size_t>(count), machine(1)), {})
            .seconds;
    if (seconds < least) least = seconds, ranks = count;
  }
  EXPECT_EQ(best->ranks, ranks);
  EXPECT_DOUBLE_EQ(best->seconds, least);
  // Sums of nothing: all that have a forest.
  auto light = eight_forests();
  light.trainable_elements = 0;
  auto quick = four;
  for (auto& one : quick) one.latency = 0;
  EXPECT_EQ(best_ranks(light, quick, {})->ranks, 4);
  // 10 GB a message.
  auto heavy = eight_forests();
  heavy.trainable_elements *= 100;
  EXPECT_EQ(best_ranks(heavy, four, {})->ranks, 1);
}

// Rank 1 of 2 keeps half of the forests of the step that has most, and two copies of the sums.
TEST(RankPlan, MemoryIsThatOfTheStepWithMostForests) {
  auto step = eight_forests();
  step.trainable_elements = 1000;
  const auto bytes_of = [&] {
    const auto plan = plan_ranks(step, {machine(1), machine(1)}, {.own = 100, .shared = 50});
    return std::vector{plan.machines[0].memory, plan.machines[1].memory};
  };
  EXPECT_EQ(bytes_of(), (std::vector<uint64_t>{150 + 4000, 150 + (4 + 2) * 4000}));
  step.most_forests = 12;
  EXPECT_EQ(bytes_of(), (std::vector<uint64_t>{150 + 4000, 150 + (6 + 2) * 4000}));
}

// 1,024 machines of 128 threads that have room for one rank each: every number of ranks up to 131,072 would
// be tried otherwise.
TEST(RankPlan, ManyLargeMachinesWithLittleMemoryTakeMoments) {
  auto light = eight_forests();
  light.threads = 1, light.trainable_elements = 0;
  const std::vector<RankMachine> many(1024, machine(0, 128, 199));
  const auto best = best_ranks(light, many, {.own = 100, .shared = 50});
  ASSERT_TRUE(best);
  EXPECT_LE(best->ranks, 8);
  for (const auto& one : best->machines) EXPECT_EQ(one.ranks, 1);
  EXPECT_FALSE(best_ranks(light, many, {.own = 200, .shared = 50}));
}

TEST(RankPlan, TheBestNumberOfRanksFitsMemoryAndThreads) {
  auto light = eight_forests();
  light.trainable_elements = 0;
  auto large = machine(0, 8, 350);
  large.latency = 0;
  // 8 threads are 4 ranks of 2; 350 bytes hold the base of 50 and 3 ranks of 100.
  const auto best = best_ranks(light, {large}, {.own = 100, .shared = 50});
  ASSERT_TRUE(best);
  EXPECT_EQ(best->ranks, 2);  // 3 ranks have 3 forests at most, two rounds as 2 ranks of 4
  EXPECT_TRUE(best->fits());
  light.forests = 6;  // 3 ranks of one round
  EXPECT_EQ(best_ranks(light, {large}, {.own = 100, .shared = 50})->ranks, 3);
  light.forests = 8;
  EXPECT_EQ(best_ranks(light, {large}, {.own = 75, .shared = 50})->ranks, 4);
  EXPECT_FALSE(best_ranks(light, {large}, {.own = 301, .shared = 50}));
  EXPECT_FALSE(best_ranks(light, {machine(0, 1)}, {}));  // a rank has two threads
  // A number that is written stays, whatever it needs.
  EXPECT_EQ(best_ranks(light, {machine(5, 8, 350)}, {.own = 100, .shared = 50})->ranks, 5);
  EXPECT_FALSE(plan_ranks(light, {machine(5, 8, 350)}, {.own = 100, .shared = 50}).fits());
}

TEST(RankPlan, AListIsPlannedByItsFirstMachinesToo) {
  const auto said = plan_machines(eight_forests(), std::vector<RankMachine>(6, machine(1)), {});
  ASSERT_TRUE(said.planned && said.best);
  EXPECT_EQ(said.planned->ranks, 6);
  EXPECT_LE(said.best->seconds, said.planned->seconds);
  std::vector<int64_t> counts;
  for (const auto& [count, plan] : said.first_machines) {
    counts.push_back(count);
    EXPECT_EQ(plan.ranks, count);
  }
  EXPECT_EQ(counts, (std::vector<int64_t>{1, 2, 4, 6}));
  EXPECT_DOUBLE_EQ(said.first_machines[1].second.seconds, 31);
  EXPECT_FALSE(plan_machines(eight_forests(), {machine(0)}, {}).planned);
  EXPECT_TRUE(plan_machines(eight_forests(), {machine(0)}, {}).first_machines.empty());
}

}  // namespace retort
