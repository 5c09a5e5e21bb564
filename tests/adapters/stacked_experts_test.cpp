// Adapters that PEFT trained on whole parameters of experts, against PEFT's logits
// (tools/golden/stacked_experts.py).
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "formats/golden_file.h"    // tests/formats
#include "formats/weight_file.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

TEST(StackedExperts, AdaptersOfPeftGiveItsLogits) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden";
  for (const std::string name : {"mistral4", "qwen3_moe"}) {
    const auto folder = golden / "stacked_experts" / name;
    const auto expected = open_safetensors(golden / "stacked_experts" / (name + ".safetensors"));
    const auto* stored = expected.find("tokens");
    ASSERT_TRUE(stored);
    std::vector<int32_t> tokens(static_cast<size_t>(stored->elements())), rows(tokens.size());
    std::memcpy(tokens.data(), stored->data.data(), stored->data.size());
    std::iota(rows.begin(), rows.end(), 0);
    Forest forest;
    forest.add_segment(tokens);
    const auto pass = make_pass(forest, at::kFloat);
    auto loaded = load_weights({.path = (golden / "models" / name).string(), .compute = "f32"});
    const at::NoGradGuard no_graph;
    const auto says = [&] { return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass); };
    EXPECT_LT(distance(says(), tensor_of(expected, "base")), 1e-5) << name;
    EXPECT_TRUE(load_adapter(loaded, folder).empty());
    EXPECT_GT(distance(says(), tensor_of(expected, "base")), 0.02) << name;
    EXPECT_LT(distance(says(), tensor_of(expected, "adapter")), 1e-5) << name;
  }
}

// As PEFT writes it before any training: B says nothing then of who shares A.
TEST(StackedExperts, WhereBIsZeroEachMatrixHasTheWholeRank) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden";
  const TemporaryFolder folder;
  const std::filesystem::path fresh = folder / "fresh";
  std::filesystem::create_directories(fresh);
  constexpr int64_t kExperts = 6, kRank = 4, kIn = 32, kBothRows = 32;  // of tests/golden/models/qwen3_moe
  const std::vector<float> a(kExperts * kRank * kIn, 0.5F), b(kBothRows * kExperts * kRank, 0.0F);
  const auto bytes = [](const std::vector<float>& values) { return std::as_bytes(std::span(values)); };
  const std::string stack = "base_model.model.model.layers.0.mlp.experts.";
  write_safetensors(
      fresh / "adapter_model.safetensors",
      {tensor_source(stack + "lora_A.weight", WeightType::f32, {kExperts * kRank, kIn}, bytes(a)),
       tensor_source(stack + "lora_B.weight", WeightType::f32, {kBothRows, kExperts * kRank}, bytes(b))},
      {{"format", "pt"}});
  write_text(fresh / "adapter_config.json",
             R"({"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": [],
                 "target_parameters": ["mlp.experts.gate_up_proj"]})");
  auto loaded = load_weights({.path = (golden / "models/qwen3_moe").string(), .compute = "f32"});
  EXPECT_TRUE(load_adapter(loaded, fresh).empty());
  int matrices = 0;
  for (const auto* linear : loaded.model->linears()) {
    if (!linear->adapter) continue;
    EXPECT_EQ(linear->adapter->a.size(0), kRank) << linear->name;
    ++matrices;
  }
  EXPECT_EQ(matrices, 2 * kExperts);
}

}  // namespace
}  // namespace retort
