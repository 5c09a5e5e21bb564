// Which layers adapter.targets mean, of a DeepSeek above all.
#include <gtest/gtest.h>

#include <set>

#include "adapters/attach.h"
#include "base/error.h"
#include "models/tensor_names.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::string golden(const std::string& family) {
  return std::filesystem::path(source_dir()) / "tests/golden/models" / family;
}

std::set<std::string> adapted(const std::string& family, const std::vector<std::string>& targets) {
  auto loaded = load_weights({.path = golden(family)});
  AdapterSpec spec;
  spec.targets = targets;
  attach(*loaded.model, spec, 1);
  std::set<std::string> fields;
  for (const auto* layer : loaded.model->linears())
    if (layer->adapter) fields.insert(field_name(loaded.model->config, layer->place));
  return fields;
}

TEST(Targets, OfADeepseekTheProjectionsOfItsAttentionByDefault) {
  const std::set<std::string> attention = {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj",
                                           "o_proj"};
  EXPECT_EQ(adapted("deepseek_v3", AdapterSpec().targets), attention);
  EXPECT_EQ(adapted("deepseek_v32", AdapterSpec().targets), attention);
  for (const auto* family : {"deepseek_v2_groups", "glm4_moe_lite", "kimi_k2", "mistral4"})
    EXPECT_EQ(adapted(family, AdapterSpec().targets), attention) << family;
  EXPECT_EQ(adapted("deepseek_v3_plain", AdapterSpec().targets),
            (std::set<std::string>{"q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"}));
  auto all = attention;
  all.insert({"gate_proj", "up_proj", "down_proj"});
  EXPECT_EQ(adapted("deepseek_v32", {"all"}), all);  // and none of the indexer's
  EXPECT_EQ(adapted("llama", AdapterSpec().targets), adapted("llama", {"all"}));
  EXPECT_EQ(adapted("deepseek_v32", {"indexer"}), (std::set<std::string>{"wq_b", "wk", "weights_proj"}));
}

TEST(Targets, WhatOnlyChoosesIsRefusedByName) {
  auto loaded = load_weights({.path = golden("deepseek_v32")});
  const auto refusal = [&](const AdapterSpec& spec) -> std::string {
    try {
      require_fitting(*loaded.model, spec);
    } catch (const RecipeError& error) { return error.what(); }
    return "";
  };
  AdapterSpec spec;
  spec.targets = {"wq_b"};
  EXPECT_EQ(
      refusal(spec),
      "adapter.targets: 'wq_b' takes no part in what a loss is computed from, it only chooses what attention "
      "looks at; leave it out, or name 'indexer' in adapter.targets");
  spec.targets = {"auto"};
  spec.modules_to_save = {"e_score_correction_bias"};
  EXPECT_EQ(
      refusal(spec),
      "adapter.modules_to_save: 'e_score_correction_bias' takes no part in what a loss is computed from, it "
      "only chooses experts; leave it out");
  spec.modules_to_save = {};
  spec.kind = "dora";
  EXPECT_EQ(refusal(spec), "");
  spec.targets = {"shared_experts.up_proj"};
  EXPECT_NE(refusal(spec).find("dora on experts is not written to a file that PEFT opens"),
            std::string::npos);
}

TEST(Targets, FullTuningLeavesWhatOnlyChoosesAlone) {
  auto loaded = load_weights({.path = golden("deepseek_v32")});
  AdapterSpec spec;
  spec.kind = "full";
  for (const auto& trainable : attach(*loaded.model, spec, 1)) {
    EXPECT_EQ(trainable.name.find(".indexer."), std::string::npos) << trainable.name;
    EXPECT_EQ(trainable.name.find("e_score_correction_bias"), std::string::npos) << trainable.name;
  }
}

}  // namespace
}  // namespace retort
