// What is told of a model's experts, where it can be said beforehand: a router of zeros finds all alike, and
// a bias that is larger than any score chooses by itself.
#include "eval/expert_use.h"

#include <gtest/gtest.h>

#include "text/byte_tokenizer.h"
#include "where.h"  // tests

namespace retort {
namespace {

LoadedModel load(const std::string& family, const std::string& schedule = "tokens") {
  const auto folder = std::filesystem::path(source_dir()) / "tests/golden/models" / family;
  return load_weights(
      {.path = folder.string(), .schedule = schedule, .memory = schedule == "layers" ? "1B" : ""});
}

std::vector<Sample> samples() {
  std::vector<Sample> all;
  for (int32_t i = 0; i < 5; ++i) {
    Sample sample;
    for (int32_t t = 0; t < 10 + i; ++t) sample.tokens.push_back((t * 7 + i * 13) % 90 + 3);
    sample.weights.assign(sample.tokens.size(), 1.0f);
    all.push_back(std::move(sample));
  }
  return all;
}
constexpr int64_t kTokens = 9 + 10 + 11 + 12 + 13;  // nothing is predicted from a text's last one

std::vector<ExpertUse> use_of(const LoadedModel& loaded) {
  const ByteTokenizer tokenizer({});
  return measure_expert_use({*loaded.model, tokenizer, nullptr, at::kFloat, 2, 32}, samples());
}

void set(LoadedModel& loaded, Role role, const std::function<void(Tensor&)>& change) {
  const at::NoGradGuard no_graph;
  for (auto& vector : loaded.model->vectors())
    if (vector.place.role == role) change(*vector.tensor);
}

TEST(ExpertUse, ARouterOfZerosFindsAllExpertsAlike) {
  auto loaded = load("mixtral");
  set(loaded, Role::router, [](Tensor& gate) { gate.zero_(); });
  const auto uses = use_of(loaded);
  const auto& config = loaded.model->config;
  ASSERT_EQ(static_cast<int64_t>(uses.size()), config.layers);
  for (const auto& use : uses) {
    EXPECT_EQ(use.tokens, kTokens);
    EXPECT_EQ(use.experts, config.experts);
    EXPECT_NEAR(use.entropy, 1, 1e-9);
    // Where all are equal the first ones are taken: each has every token.
    EXPECT_DOUBLE_EQ(use.largest, 1.0 / static_cast<double>(use.each));
    EXPECT_EQ(use.smallest, 0);
    EXPECT_EQ(use.idle, use.experts - use.each);
    EXPECT_FALSE(use.bias_from);
  }
}

TEST(ExpertUse, ABiasThatChoosesIsTold) {
  auto loaded = load("deepseek_v3");
  set(loaded, Role::router_bias, [](Tensor& bias) {
    bias.zero_();
    bias[0] = 50, bias[1] = 40;
  });
  const auto uses = use_of(loaded);
  ASSERT_FALSE(uses.empty());
  for (const auto& use : uses) {
    EXPECT_EQ(use.bias_from, 0);
    EXPECT_EQ(use.bias_to, 50);
    EXPECT_DOUBLE_EQ(use.largest, 1.0 / static_cast<double>(use.each));
    EXPECT_GT(use.entropy, 0);
    EXPECT_LE(use.entropy, 1);
  }
}

TEST(ExpertUse, IsTheSameLayerByLayer) {
  for (const auto* family : {"mixtral", "qwen3_moe_dense", "deepseek_v3", "deepseek_v2_groups"}) {
    const auto here = use_of(load(family)), there = use_of(load(family, "layers"));
    ASSERT_EQ(here.size(), there.size()) << family;
    ASSERT_FALSE(here.empty());
    for (size_t i = 0; i < here.size(); ++i) {
      EXPECT_EQ(here[i].layer, there[i].layer);
      EXPECT_EQ(here[i].tokens, there[i].tokens);
      EXPECT_EQ(here[i].largest, there[i].largest);
      EXPECT_EQ(here[i].smallest, there[i].smallest);
      EXPECT_EQ(here[i].idle, there[i].idle);
      EXPECT_EQ(here[i].entropy, there[i].entropy);
    }
  }
  EXPECT_TRUE(use_of(load("llama")).empty());
}

}  // namespace
}  // namespace retort
