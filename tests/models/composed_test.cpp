// Every family in the composed form of its operations (ops/composed.h) against the kernels of the CPU: logits
// over a forest with shared prefixes and gradients of adapters on all its linear layers, in the CPU's memory
// and on a device that LibTorch takes for another.
#include "ops/composed.h"

#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "models/model.h"
#include "ops/device_copies.h"
#include "ops/pretend_device.h"  // tests/ops
#include "ops/tensors.h"         // tests/ops
#include "where.h"               // tests

namespace retort {
namespace {

std::vector<int32_t> words(int64_t count, int32_t from) {
  std::vector<int32_t> all;
  for (int64_t i = 0; i < count; ++i) all.push_back(static_cast<int32_t>(3 + (from + 11 * i) % 80));
  return all;
}

Forest branches() {
  Forest forest;
  const auto head = forest.add_segment(words(23, 1));
  const auto branch = forest.add_segment(words(9, 2), head);
  forest.add_segment(words(4, 3), branch);
  forest.add_segment(words(12, 4), branch);
  forest.add_segment(words(6, 5), head);
  forest.add_segment(words(14, 6));
  for (int32_t row = 0; row < forest.size(); row += 2)
    forest.targets.push_back({row, 3 + (row * 7) % 80, 0.5f + static_cast<float>(row % 3), 0});
  return forest;
}

class ComposedFamily : public testing::TestWithParam<const char*> {};

struct Answer {
  Tensor logits;
  double nats = 0;
  std::vector<Tensor> gradients;
};

TEST_P(ComposedFamily, LogitsAndAdapterGradientsAreThoseOfTheKernels) {
  const auto loaded = load_weights(
      {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / GetParam()).string()});
  auto& model = *loaded.model;
  std::vector<std::string> names;
  std::vector<Tensor> leaves;
  uint64_t seed = 1;
  for (auto* linear : model.linears()) {
    if (chooses_only(linear->place.role)) continue;
    linear->adapter = LowRank{(0.2 * random({2, linear->weight.columns}, seed)).requires_grad_(),
                              (0.2 * random({linear->weight.rows, 2}, seed + 1)).requires_grad_(),
                              {},
                              0.5,
                              seed % 4 == 1 ? 0.1 : 0};
    seed += 2;
    for (auto* leaf : {&linear->adapter->a, &linear->adapter->b})
      leaves.push_back(*leaf), names.push_back(linear->name + (leaf == &linear->adapter->a ? ".a" : ".b"));
  }
  const auto forest = branches();
  const auto answer = [&](at::ScalarType type, bool on, bool recomputed,
                          at::Device device = at::kCPU) -> Answer {
    const ComposedScope scope(on);
    auto pass = make_pass(forest, type, device);
    pass.training = true, pass.dropout_key = 5, pass.recompute = recomputed;
    const auto hidden = model.hidden(pass);
    std::vector<int32_t> rows;
    for (int32_t row = 0; row < forest.size(); ++row) rows.push_back(row);
    const auto loss = cross_entropy(hidden, forest.targets, model.head, pass);
    auto gradients = torch::autograd::grad({loss.nats}, leaves, {}, std::nullopt, false, true);
    for (size_t i = 0; i < leaves.size(); ++i)
      if (!gradients[i].defined()) gradients[i] = at::zeros_like(leaves[i]);  // an expert without tokens
    return {logits(hidden, rows, model.head, pass), loss.nats.item<double>(), gradients};
  };
  const auto expected = answer(at::kFloat, false, false);
  for (const bool recomputed : {false, true}) {
    const auto found = answer(at::kFloat, true, recomputed);
    EXPECT_LT(distance(found.logits, expected.logits.to(at::kDouble)), 1e-5);
    EXPECT_NEAR(found.nats / expected.nats, 1, 1e-5);
    const auto before = pretend::operations.load();
    const auto there = answer(at::kFloat, false, recomputed, pretend::kDevice);
    EXPECT_GT(pretend::operations, before);
    EXPECT_LT(distance(there.logits, expected.logits.to(at::kDouble)), 1e-5);
    EXPECT_NEAR(there.nats / expected.nats, 1, 1e-5);
    // As in golden_test.cpp: where one token reaches an expert, what is left of its gradient is small beside
    // what it was summed from. Each operation alone is within 1e-5 (tests/ops/composed_test.cpp).
    for (size_t i = 0; i < leaves.size(); ++i)
      for (const auto* gradients : {&found.gradients, &there.gradients})
        EXPECT_LT(distance(gradients->at(i), expected.gradients[i].to(at::kDouble)), 3e-5) << names[i];
  }
}

// What is frozen stays on a device: a later pass takes only lists there.
TEST_P(ComposedFamily, ALaterPassCopiesNoWeight) {
  const auto loaded = load_weights(
      {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / GetParam()).string()});
  const auto& model = *loaded.model;
  const at::NoGradGuard no_graph;
  const auto forest = branches();
  const auto answer = [&] {
    const auto pass = make_pass(forest, at::kFloat, pretend::kDevice);
    return logits(model.hidden(pass), std::vector<int32_t>{0, 9}, model.head, pass);
  };
  set_device_room(0);
  const auto travelled = answer();
  set_device_room(std::numeric_limits<uint64_t>::max());
  // Where queries grow along a text, each layer brings by how much: a number a token.
  const auto growth = model.config.rope.query_beta ? 4 * model.config.layers * forest.size() : 0;
  for (int pass = 0; pass < 2; ++pass) {
    const auto before = pretend::numbers_copied.load();
    EXPECT_TRUE(at::equal(answer(), travelled));
    if (pass == 0) EXPECT_GT(pretend::numbers_copied, before + growth);
    else EXPECT_LE(pretend::numbers_copied, before + growth);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ComposedFamily,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
                                         "qwen3_moe", "qwen3_moe_plain", "qwen3_moe_dense", "mixtral",
                                         "llama_bias", "phi4_mini", "smollm3", "granite", "olmo2", "olmo3",
                                         "qwen3_bias", "gemma3_bias", "olmo3_bias", "glm4", "seed_oss",
                                         "ministral3", "deepseek_v3", "deepseek_v3_plain", "deepseek_v32",
                                         "deepseek_v32_sparse", "deepseek_v2", "deepseek_v2_groups",
                                         "glm4_moe_lite", "glm4_moe_lite_mixed", "kimi_k2", "moonlight",
                                         "mistral4", "mistral4_groups"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace
}  // namespace retort
