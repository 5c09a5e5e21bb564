// Adapters that PEFT trained on whole parameters of experts, against PEFT's logits
// (tools/golden/stacked_experts.py).
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "formats/golden_file.h"  // tests/formats
#include "ops/tensors.h"          // tests/ops
#include "where.h"                // tests

namespace retort {
namespace {

TEST(StackedExperts, AdaptersOfPeftGiveItsLogits) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden";
  for (const std::string name : {"mistral4", "qwen3_moe"}) {
    const auto folder = golden / "stacked_experts" / name;
    if (!std::filesystem::exists(folder))
      GTEST_SKIP() << folder << ": tools/golden/stacked_experts.py was not run";
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

}  // namespace
}  // namespace retort
