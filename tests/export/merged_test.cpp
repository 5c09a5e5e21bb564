// What every writer of a whole model starts from: each tensor once, and a config.json that others read.
#include "export/merged.h"

#include <gtest/gtest.h>

#include <set>

#include "models/read_config.h"
#include "where.h"  // tests

namespace retort {
namespace {

LoadedModel golden_model(const std::string& family) {
  return load_weights(
      {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string()});
}

class Merged : public testing::TestWithParam<const char*> {};

// Qwen 2's biases were listed twice, among the linear layers and among the vectors.
TEST_P(Merged, ListsEveryTensorOnce) {
  const auto loaded = golden_model(GetParam());
  std::set<std::string> names;
  for (const auto& tensor : merged_tensors(*loaded.model))
    EXPECT_TRUE(names.insert(tensor.name).second) << tensor.name;
  for (const auto* layer : loaded.model->linears()) {
    EXPECT_TRUE(names.count(layer->name + ".weight"));
    EXPECT_EQ(names.count(layer->name + ".bias"), layer->bias.defined() ? 1u : 0u) << layer->name;
  }
}

// transformers 5 refuses "query_pre_attn_scalar": 16.0 where its configuration declares a whole number.
TEST_P(Merged, WritesWholeNumbersAsSuch) {
  const auto json = hf_config_json(golden_model(GetParam()).model->config);
  const auto found = json.find("query_pre_attn_scalar");
  EXPECT_EQ(found != json.end(), std::string(GetParam()).starts_with("gemma"));
  if (found != json.end()) { EXPECT_TRUE(found->is_number_integer()) << found->dump(); }
}

TEST(Merged, FoldersAtFourBitsAreWrittenWide) {
  for (const auto* method : {"bitsandbytes", "gptq", "awq", "mxfp4", "nvfp4", "modelopt"}) {
    const auto loaded = golden_model(std::string("four_bit/") + method);
    EXPECT_FALSE(hf_config_json(loaded.model->config).contains("quantization_config"));
    const auto* layer = loaded.model->linears().front();
    ASSERT_EQ(layer->weight.type, WeightType::packed4);
    for (const auto& tensor : merged_tensors(*loaded.model))
      if (tensor.name == layer->name + ".weight") {
        EXPECT_EQ(tensor.shape, (std::vector<int64_t>{layer->weight.rows, layer->weight.columns}));
        EXPECT_TRUE(at::equal(tensor.rows(1, 5), widen_rows(layer->weight, 1, 5, at::kFloat))) << method;
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Merged,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
                                         "qwen3_moe", "mixtral"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace retort
