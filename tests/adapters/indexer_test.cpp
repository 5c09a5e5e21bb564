// The indexer of DeepSeek V3.2 as a target of adapters: its loss falls, alone and beside attention, and what
// attention pays to the chosen tokens grows nearer to all that it pays.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "adapters/attach.h"
#include "base/json.h"
#include "models/deepseek.h"
#include "ops/head.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kGolden =
    std::filesystem::path(source_dir()) / "tests/golden/models/deepseek_v32_sparse";

struct Training {
  LoadedModel loaded = load_weights({.path = kGolden.string(), .compute = "f32"});
  std::vector<Tensor> leaves;
  std::vector<bool> of_indexer;
  Forest forest;

  explicit Training(std::vector<std::string> targets) {
    at::set_num_threads(1);  // operations of microseconds: threads that wait for each other are slower
    AdapterSpec spec;
    spec.targets = std::move(targets);
    spec.rank = 8;
    for (const auto& each : attach(*loaded.model, spec, 7)) {
      leaves.push_back(*each.tensor);
      of_indexer.push_back(each.name.find(".indexer.") != std::string::npos);
    }
    const auto rows = read_json(kGolden / "golden.json")["rows"].get<std::vector<std::vector<int32_t>>>();
    for (const auto& row : rows) {
      const auto begin = static_cast<int32_t>(forest.size());
      forest.add_segment(row);
      for (size_t i = 1; i < row.size(); ++i)
        forest.targets.push_back({begin + static_cast<int32_t>(i) - 1, row[i], 1, 0});
    }
  }
  const Indexer& indexer(size_t layer) const {
    return *dynamic_cast<const Stack<DeepseekLayer>&>(*loaded.model).layers.at(layer).indexer();
  }
  // KL in nats a token of each layer, and the gradients of the pass's loss.
  std::pair<std::vector<double>, std::vector<Tensor>> step(bool recompute = false) const {
    auto pass = make_pass(forest, at::kFloat);
    pass.training = true;
    pass.recompute = recompute;
    const auto loss = cross_entropy(loaded.model->hidden(pass), forest.targets, loaded.model->head, pass);
    auto gradients =
        torch::autograd::grad({loss.nats}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
    std::vector<double> nats;
    for (size_t layer = 0; layer < 3; ++layer) {
      const auto [sum, rows] = indexer(layer).learned->take();
      EXPECT_EQ(rows, forest.size());
      nats.push_back(sum / static_cast<double>(rows));
    }
    return {nats, gradients};
  }
  // The indexer alone, so that what it learns stays the same.
  void learn(int steps, double rate) {
    std::vector<Tensor> mean, square;  // Adam
    for (const auto& leaf : leaves)
      mean.push_back(at::zeros_like(leaf)), square.push_back(at::zeros_like(leaf));
    for (int i = 1; i <= steps; ++i) {
      const auto gradients = step().second;
      const at::NoGradGuard no_graph;
      for (size_t j = 0; j < leaves.size(); ++j) {
        if (!gradients[j].defined() || !of_indexer[j]) continue;
        mean[j].mul_(0.9).add_(gradients[j], 0.1),
            square[j].mul_(0.99).addcmul_(gradients[j], gradients[j], 0.01);
        leaves[j].sub_(rate * (mean[j] / (1 - std::pow(0.9, i))) /
                       ((square[j] / (1 - std::pow(0.99, i))).sqrt() + 1e-8));
      }
    }
  }
};

// Section 2.1.1's warm-up: attention is dense, and nothing but the indexer learns.
TEST(Indexer, AloneItsLossFallsInEveryLayer) {
  Training training({"indexer"});
  ASSERT_EQ(training.leaves.size(), 2u * 3 * 3);  // A and B of three matrices in three layers
  const auto before = training.step().first;
  EXPECT_EQ(training.step(true).first, before);  // the same where layers are computed again
  training.learn(60, 0.02);
  const auto after = training.step().first;
  for (size_t layer = 0; layer < 3; ++layer) {
    EXPECT_GT(before[layer], 0.05);
    EXPECT_LT(after[layer], 0.7 * before[layer]) << layer;
  }
}

// The sparse stage: beside adapters of attention, over the chosen tokens alone. Its loss reaches nothing but
// the indexer, and the model's loss does not reach the indexer.
TEST(Indexer, BesideAttentionTheTwoLossesDoNotMeet) {
  Training both({"auto", "indexer"}), attention({"auto"});
  const auto gradients = both.step().second;
  auto pass = make_pass(attention.forest, at::kFloat);
  pass.training = true;
  const auto loss = cross_entropy(attention.loaded.model->hidden(pass), attention.forest.targets,
                                  attention.loaded.model->head, pass);
  const auto expected = torch::autograd::grad({loss.nats}, attention.leaves, {}, std::nullopt, false, true);
  size_t compared = 0, of_indexer = 0, at = 0;
  for (const auto* linear : std::as_const(*both.loaded.model).linears()) {
    if (!linear->adapter) continue;
    const bool chooses = chooses_only(linear->place.role);
    for (const auto* leaf : {&linear->adapter->a, &linear->adapter->b}) {
      size_t own = 0;
      while (!both.leaves[own].is_same(*leaf)) ++own;
      if (chooses) {
        of_indexer += gradients[own].abs().sum().item<double>() > 0;
      } else {
        EXPECT_TRUE(at::equal(gradients[own], expected[at++])) << linear->name;
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, attention.leaves.size());
  EXPECT_EQ(of_indexer, 3u * 3);  // of B: A gets none while B is zero
  const auto before = both.step().first;
  both.learn(40, 0.02);
  const auto after = both.step().first;
  EXPECT_LT(after[0] + after[1] + after[2], 0.8 * (before[0] + before[1] + before[2]));
}

}  // namespace
}  // namespace retort
