#include "quant/mixture.h"
#include "where.h"  // tests

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

namespace retort {
namespace {

TEST(
    Mixture,
    EveryTensorGetsTheTypeThatLlamaCppGivesIt) {  // tools/golden/mixtures.py: four tiny models, 18 file types
  std::ifstream file(std::string(source_dir()) + "/tests/golden/quant/mixtures.json");
  const auto golden = nlohmann::json::parse(file);
  int checked = 0;
  for (const auto& test : golden.at("cases")) {
    const MixtureModel model{.architecture = "llama",
                             .layers = test.at("layers"),
                             .heads = test.at("heads"),
                             .kv_heads = test.at("kv_heads"),
                             .experts = test.at("experts"),
                             .tied_head = test.at("tied")};
    for (const auto& mixture : all_mixtures()) {
      std::istringstream types(test.at("types").at(std::string(mixture.name)).get<std::string>());
      for (const auto& tensor : test.at("tensors")) {
        std::string expected;
        types >> expected;
        const auto name = tensor.at(0).get<std::string>();
        EXPECT_EQ(type_info(choose_type(mixture, model, {name, tensor.at(1)})).name, expected)
            << test.at("title") << " " << mixture.name << " " << name;
        ++checked;
      }
    }
  }
  EXPECT_GT(checked, 5000);
}

TEST(Mixture, NamesAndFileTypes) {
  EXPECT_EQ(mixture_from_name("q4_k_m")->file_type, 15);
  EXPECT_EQ(mixture_from_name("Q4_K")->name, "Q4_K_M");
  EXPECT_EQ(mixture_from_name("IQ4_NL")->file_type, 25);
  EXPECT_EQ(mixture_from_name("BF16")->main_type, WeightType::bf16);
  EXPECT_FALSE(mixture_from_name("Q9_K"));
}

TEST(Mixture, EightyLayersOfGroupedHeadsRaiseTheValueProjection) {
  const auto mixture = *mixture_from_name("Q4_K_S");
  const MixtureTensor value{"blk.40.attn_v.weight", {1024, 8192}};
  EXPECT_EQ(choose_type(mixture, {.architecture = "llama", .layers = 80, .heads = 64, .kv_heads = 8}, value),
            WeightType::q5_k);
  EXPECT_EQ(choose_type(mixture, {.architecture = "llama", .layers = 80, .heads = 64, .kv_heads = 64}, value),
            WeightType::q4_k);
}

TEST(Mixture, SmallAndSensitiveTensorsAreKept) {
  EXPECT_FALSE(is_quantizable({"blk.0.attn_norm.weight", {64, 64}}));
  EXPECT_FALSE(is_quantizable({"blk.0.ffn_gate_inp.weight", {8, 64}}));
  EXPECT_FALSE(is_quantizable({"blk.0.attn_q.bias", {64, 64}}));
  EXPECT_FALSE(is_quantizable({"rope_freqs.weight", {64}}));
  EXPECT_FALSE(is_quantizable({"a.weight", {}}));
  EXPECT_TRUE(is_quantizable({"blk.0.attn_q.weight", {64, 64}}));
}

}  // namespace
}  // namespace retort
