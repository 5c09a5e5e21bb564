#include "train/step.h"

#include <atomic>
#include <numeric>
#include <set>

#include "base/stop.h"
#include "train/tiny_run.h"

namespace retort {
namespace {

StepSums sums_of(const TinyRun& run, const StepPlan& plan, int64_t threads) {
  std::vector<Tensor> leaves;
  for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
  StepSums sums;
  const auto pass = [](const Forest& forest, int64_t) { return make_pass(forest, at::kFloat); };
  EXPECT_TRUE(add_gradients({*run.loaded.model, next_token_objective(), plan, pass, threads}, leaves, sums));
  return sums;
}

}  // namespace

// The mean of micro-batch means weighs short forests too much; sums do not.
TEST(Step, TheSameSamplesInOneForestOrSixteenGiveTheSameGradient) {
  TinyRun run;
  move_b(run);
  const auto samples = made_up_samples(16, 4);
  const auto one = sums_of(run, plan_step(samples, first(16), 100000, 1), 1);
  EXPECT_GT(one.weight, 0);
  for (const int64_t row_tokens : {100, 40, 1}) {
    const auto plan = plan_step(samples, first(16), row_tokens, 1);
    EXPECT_GT(plan.forests.size(), 1u);
    const auto many = sums_of(run, plan, 2);
    EXPECT_EQ(many.weight, one.weight);
    EXPECT_EQ(many.forests, static_cast<int64_t>(plan.forests.size()));
    EXPECT_NEAR(many.nats / one.nats, 1, 1e-6);
    for (size_t i = 0; i < one.gradients.size(); ++i) {
      const auto largest = one.gradients[i].abs().max().item<double>();
      EXPECT_GT(largest, 0) << run.leaves[i].name;
      EXPECT_LT((many.gradients[i] - one.gradients[i]).abs().max().item<double>() / largest, 2e-6)
          << run.leaves[i].name << " at " << row_tokens;
    }
  }
}

// The embedding's gradient joins the sums past the graph; what the graph alone gives is the reference, over a
// head of its own and one that is the embedding.
TEST(Step, EveryWeightGetsWhatTheGraphAloneGives) {
  AdapterSpec full;
  full.kind = "full";
  for (const auto* family : {"llama", "gemma2", "qwen3", "qwen3_moe"}) {
    TinyRun run(full, family);
    const auto plan = plan_step(made_up_samples(16, 4), first(16), 40, 1);
    ASSERT_GT(plan.forests.size(), 2u);
    std::vector<Tensor> leaves, reference(run.leaves.size());
    for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
    for (const auto& forest : plan.forests) {
      const auto loss = next_token_objective()(*run.loaded.model, forest, make_pass(forest, at::kFloat));
      const auto gradients = torch::autograd::grad({loss.nats}, leaves, {}, std::nullopt, false, true);
      for (size_t i = 0; i < leaves.size(); ++i)  // an expert that nobody asked has none
        if (gradients[i].defined())
          reference[i] = reference[i].defined() ? reference[i] + gradients[i] : gradients[i].clone();
    }
    const auto sums = sums_of(run, plan, 2);
    for (size_t i = 0; i < leaves.size(); ++i) {
      ASSERT_TRUE(reference[i].defined()) << family << " " << run.leaves[i].name;
      const auto largest = reference[i].abs().max().item<double>();
      EXPECT_GT(largest, 0) << family << " " << run.leaves[i].name;
      EXPECT_LT((sums.gradients[i] - reference[i]).abs().max().item<double>() / largest, 2e-6)
          << family << " " << run.leaves[i].name;
    }
  }
}

TEST(Step, SumsDoNotDependOnWhichThreadEndsFirst) {
  AdapterSpec full;
  full.kind = "full";
  for (const auto& adapter : {lora(), full}) {
    TinyRun run(adapter, "qwen3_moe");
    move_b(run);
    const auto samples = made_up_samples(24, 4);
    const auto plan = plan_step(samples, first(24), 30, 3);
    const auto reference = sums_of(run, plan, 1);  // inner threads are 1 in each: forests outnumber threads
    for (int again = 0; again < 5; ++again) {
      const auto sums = sums_of(run, plan, 3);
      EXPECT_EQ(sums.nats, reference.nats);
      for (size_t i = 0; i < sums.gradients.size(); ++i)
        EXPECT_TRUE(at::equal(sums.gradients[i], reference.gradients[i])) << run.leaves[i].name;
    }
  }
}

TEST(Step, EveryTargetIsInThePlanOnceUnderItsSamplesIndex) {
  const auto samples = made_up_samples(20, 9);
  const std::vector<int64_t> chosen = {17, 3, 4, 11, 0};
  const auto plan = plan_step(samples, chosen, 32, 2);
  std::multiset<std::pair<int32_t, int32_t>> expected, found;  // sample, label
  for (const auto index : chosen)
    for (size_t t = 1; t < samples[static_cast<size_t>(index)].tokens.size(); ++t)
      if (samples[static_cast<size_t>(index)].weights[t] != 0)
        expected.emplace(static_cast<int32_t>(index), samples[static_cast<size_t>(index)].tokens[t]);
  for (const auto& forest : plan.forests) {
    check_forest(forest);
    for (const auto& target : forest.targets) found.emplace(target.sample, target.label);
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(plan.supervised, static_cast<int64_t>(expected.size()));
}

TEST(Step, ThereIsWorkForEveryThread) {
  const auto samples = made_up_samples(16, 4);
  const auto alone = plan_step(samples, first(16), 2048, 1);
  ASSERT_EQ(alone.forests.size(), 1u);
  for (const int64_t threads : {2, 3, 4}) {
    const auto plan = plan_step(samples, first(16), 2048, threads);
    EXPECT_EQ(static_cast<int64_t>(plan.forests.size()), threads);
    for (const auto& forest : plan.forests)
      EXPECT_LT(forest.size(), alone.forests[0].size() * 3 / 2 / threads + 21) << threads;
  }
  // Three full forests on two threads would leave one idle in the second round.
  const auto rows = alone.forests[0].size();
  EXPECT_EQ(plan_step(samples, first(16), rows / 3 + 12, 1).forests.size(), 3u);
  EXPECT_EQ(plan_step(samples, first(16), rows / 3 + 12, 2).forests.size(), 4u);
  // A full forest and a rest are as many as there are threads, but one of them would wait.
  const auto full = plan_step(samples, first(16), rows * 3 / 4, 1),
             even = plan_step(samples, first(16), rows * 3 / 4, 2);
  ASSERT_EQ(full.forests.size(), 2u);
  EXPECT_GT(full.forests[0].size(), full.forests[1].size() * 2);
  ASSERT_EQ(even.forests.size(), 2u);
  EXPECT_LT(even.forests[0].size(), even.forests[1].size() * 3 / 2);
}

// What the parts of a forest would each hold again may cost more than sharing its threads out inside the
// operations.
TEST(Step, ALongCommonBeginningIsNotRepeated) {
  auto samples = made_up_samples(8, 4);
  for (auto& sample : samples) {
    sample.tokens.insert(sample.tokens.begin(), 200, 3);
    sample.weights.insert(sample.weights.begin(), 200, 0);
  }
  for (const int64_t threads : {2, 4})
    EXPECT_EQ(plan_step(samples, first(8), 2048, threads).forests.size(), 1u);
}

TEST(Step, OneSampleStaysOneForest) {
  const auto samples = made_up_samples(1, 4);
  EXPECT_EQ(plan_step(samples, first(1), 2048, 4).forests.size(), 1u);
  EXPECT_EQ(plan_step(samples, first(1), 1, 4).forests.size(),
            1u);  // longer than the budget: a forest of its own
}

TEST(Step, AStopLeavesTheExactSumsOfTheFirstForests) {
  TinyRun run;
  move_b(run);
  const auto samples = made_up_samples(24, 4);
  const auto plan = plan_step(samples, first(24), 30, 2);
  ASSERT_GT(plan.forests.size(), 6u);
  const auto whole = sums_of(run, plan, 2);
  std::vector<Tensor> leaves;
  for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
  const auto pass = [](const Forest& forest, int64_t) { return make_pass(forest, at::kFloat); };
  std::atomic<int> calls = 0;
  const Objective stopping = [&](const Model& model, const Forest& forest, const Pass& each) {
    if (++calls == 4) request_stop();
    return next_token_objective()(model, forest, each);
  };
  StepSums sums;
  EXPECT_FALSE(add_gradients({*run.loaded.model, stopping, plan, pass, 2}, leaves, sums));
  EXPECT_GT(sums.forests, 0);
  EXPECT_LT(sums.forests, static_cast<int64_t>(plan.forests.size()));
  forget_stop();
  EXPECT_TRUE(add_gradients({*run.loaded.model, next_token_objective(), plan, pass, 2}, leaves, sums));
  EXPECT_EQ(sums.nats, whole.nats);
  for (size_t i = 0; i < sums.gradients.size(); ++i)
    EXPECT_TRUE(at::equal(sums.gradients[i], whole.gradients[i])) << run.leaves[i].name;
}

TEST(Step, AnErrorInOneForestEndsTheStep) {
  TinyRun run;
  const auto samples = made_up_samples(24, 4);
  const auto plan = plan_step(samples, first(24), 30, 2);
  std::vector<Tensor> leaves;
  for (const auto& leaf : run.leaves) leaves.push_back(*leaf.tensor);
  std::atomic<int> calls = 0;
  const Objective failing = [&](const Model& model, const Forest& forest, const Pass& each) {
    if (++calls == 3) throw std::out_of_range("token 999 is outside the vocabulary");
    return next_token_objective()(model, forest, each);
  };
  StepSums sums;
  const auto pass = [](const Forest& forest, int64_t) { return make_pass(forest, at::kFloat); };
  EXPECT_THROW(add_gradients({*run.loaded.model, failing, plan, pass, 2}, leaves, sums), std::out_of_range);
}

}  // namespace retort
