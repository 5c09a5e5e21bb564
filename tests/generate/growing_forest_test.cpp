// A cache in fewer bits: hidden states of prompts and of the tokens after them stay close to those over an
// fp32 cache.
#include "generate/growing_forest.h"

#include <gtest/gtest.h>

#include "smollm2.h"

namespace retort {
namespace {

class KvOfSmolLM2 : public WithSmolLM2<testing::TestWithParam<std::pair<const char*, double>>> {
 protected:
  // Last hidden states after two prompts that share a beginning, entered in passes of 24 rows, and some
  // steps: [2 + steps * 2, E].
  Tensor states(KvType kv, at::ScalarType compute = at::kFloat) const {
    const at::NoGradGuard no_graph;
    const auto tokens = [&](const std::string& text) { return loaded->tokenizer->encode(text); };
    const std::vector<std::vector<int32_t>> prompts = {
        tokens("The history of the sea begins with the first people who built boats and left the coast "
               "behind them, and it ends"),
        tokens("The history of the sea begins with the first people who built boats and left the coast "
               "behind them. Their names")};
    GrowingForest forest(*loaded->model, compute, kv);
    std::vector<Tensor> all = {forest.enter(prompts, 6, 24)};
    const auto next = tokens(" are not known to us today");
    for (size_t i = 0; i < 6; ++i)
      all.push_back(forest.step(std::vector<int32_t>{0, 1}, std::vector<int32_t>{next[i], next[5 - i]}));
    return at::cat(all).to(at::kFloat);
  }
};

double distance(const Tensor& a, const Tensor& b) { return ((a - b).norm() / b.norm()).item<double>(); }

TEST_P(KvOfSmolLM2, StaysCloseToFp32) {
  const auto [name, tolerance] = GetParam();
  const auto exact = states(KvType::f32), kept = states(kv_type(name));
  const auto apart = distance(kept, exact);
  RecordProperty("distance", std::to_string(apart));
  EXPECT_LT(apart, tolerance);
  EXPECT_GT(apart, tolerance / 20);  // it is another number format indeed
}
INSTANTIATE_TEST_SUITE_P(Types, KvOfSmolLM2,
                         testing::Values(std::pair{"bf16", 0.02}, std::pair{"int8", 0.06}),
                         [](const auto& type) { return std::string(type.param.first); });

// Texts leave, their rows are given up, others enter beside one that stays: each has the states that it has
// alone.
TEST_F(KvOfSmolLM2, TextsEnterWhereOthersHaveLeft) {
  const at::NoGradGuard no_graph;
  const auto tokens = [&](const std::string& text) { return loaded->tokenizer->encode(text); };
  const std::string head = "A list of animals that live in the sea, with a sentence about each of them. ";
  const auto whale = tokens(head + "The whale"), shark = tokens(head + "The shark has"),
             seal = tokens(head + "Seals"), crab = tokens(head + "A crab walks"),
             clam = tokens(head + "A clam");
  const auto next = tokens(" is large and quiet");
  const auto common = static_cast<int64_t>(tokens(head).size()) - 1;
  GrowingForest forest(*loaded->model, at::kFloat);
  forest.enter({whale, shark, seal}, 60);
  for (size_t i = 0; i < 3; ++i)
    forest.step(std::vector<int32_t>{0, 1, 2}, std::vector<int32_t>{next[i], next[i], next[i]});
  const auto rows = forest.rows_used();
  forest.leave(0);
  forest.leave(2);  // more than half of the rows are free now
  const auto entered = forest.enter({clam, crab}, 4, 512, 1, common);
  EXPECT_LT(forest.rows_used(), rows);
  const auto stepped =
      forest.step(std::vector<int32_t>{1, 3, 4}, std::vector<int32_t>{next[3], next[0], next[0]});

  const auto alone = [&](const std::vector<int32_t>& prompt, size_t steps) {
    GrowingForest one(*loaded->model, at::kFloat);
    std::vector<Tensor> states = {one.enter({prompt}, 8)};
    for (size_t i = 0; i < steps; ++i)
      states.push_back(one.step(std::vector<int32_t>{0}, std::vector<int32_t>{next[i]}));
    return states;
  };
  const auto of_shark = alone(shark, 4), of_clam = alone(clam, 1), of_crab = alone(crab, 1);
  EXPECT_LT(distance(entered[0], of_clam[0][0]), 1e-4);
  EXPECT_LT(distance(entered[1], of_crab[0][0]), 1e-4);
  EXPECT_LT(distance(stepped[0], of_shark[4][0]), 1e-4);
  EXPECT_LT(distance(stepped[1], of_clam[1][0]), 1e-4);
  EXPECT_LT(distance(stepped[2], of_crab[1][0]), 1e-4);
}

TEST_F(KvOfSmolLM2, AsComputedIsTheComputeType) {
  EXPECT_TRUE(at::equal(states(KvType::as_computed), states(KvType::f32)));
  EXPECT_TRUE(at::equal(states(KvType::as_computed, at::kBFloat16), states(KvType::bf16, at::kBFloat16)));
}

}  // namespace
}  // namespace retort
