// Adapters that PEFT wrote, and one in mlx-lm's layout, against PEFT's and transformers' logits
// (tools/golden/adapters.py): with patterns, weighted, summed, merged into the base.
#include <gtest/gtest.h>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "adapters/merge.h"
#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "export/artefacts.h"
#include "formats/golden_file.h"  // tests/formats
#include "formats/peft_folder.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(source_dir()) / "tests/golden";

LoadedModel base() { return load_weights({.path = (kGolden / "models/llama").string(), .compute = "f32"}); }
std::string adapter(const std::string& name) { return (kGolden / "adapters" / name).string(); }

const WeightFile& expected() {
  static const auto file = open_safetensors(kGolden / "adapters/expected.safetensors");
  return file;
}

Tensor logits_of(const LoadedModel& loaded) {
  const at::NoGradGuard no_grad;
  const auto* stored = expected().find("tokens");
  std::vector<int32_t> tokens(static_cast<size_t>(stored->elements()));
  std::memcpy(tokens.data(), stored->data.data(), stored->data.size());
  Forest forest;
  forest.add_segment(tokens);
  const auto pass = make_pass(forest, at::kFloat);
  std::vector<int32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

void expect_logits(const LoadedModel& loaded, const std::string& name) {
  EXPECT_LT(distance(logits_of(loaded), tensor_of(expected(), name)), 1e-5) << name;
}

TEST(GoldenAdapters, GiveTheLogitsOfPeftAndOfMlxsFormula) {
  EXPECT_GT(distance(tensor_of(expected(), "patterns"), tensor_of(expected(), "base")), 0.05);
  for (const char* name : {"patterns", "rslora", "mlx"}) {
    auto loaded = base();
    EXPECT_TRUE(load_adapter(loaded, adapter(name)).empty());
    expect_logits(loaded, name);
  }
}

TEST(GoldenAdapters, WeightedSumsAreThoseOfAddWeightedAdapter) {
  struct Case {
    const char* name;
    std::vector<WeightedAdapter> adapters;
  };
  for (const auto& [name, adapters] :
       {Case{"weighted", {{adapter("patterns"), 0.7}, {adapter("rslora"), -0.3}}},
        Case{"summed", {{adapter("patterns"), 1}, {adapter("rslora"), 1}}},
        Case{"halved", {{adapter("patterns"), 0.5}}}}) {
    auto loaded = base();
    load_adapters(loaded, adapters);
    expect_logits(loaded, name);
    merge_adapters(loaded);
    expect_logits(loaded, name);
    auto merged = base();
    const auto before = merged.sha256.get();
    merge_into_base(merged, adapters);
    expect_logits(merged, name);
    EXPECT_TRUE(trainables(*merged.model).empty());
    EXPECT_NE(merged.sha256.get(), before);
  }
}

// Ranks of layers differ, and what is written says so: PEFT would not load it otherwise.
TEST(GoldenAdapters, PatternsAreWrittenBack) {
  const TemporaryFolder folder;
  auto loaded = base();
  load_adapter(loaded, adapter("patterns"));
  write_peft_adapter(folder / "again", loaded,
                     {.kind = "lora", .rank = 2, .alpha = 6, .targets = {}, .modules_to_save = {}});
  const auto config = parse_peft_config(read_text(folder / "again/adapter_config.json"), "config");
  using Ranks = std::vector<std::pair<std::string, int64_t>>;
  using Alphas = std::vector<std::pair<std::string, double>>;
  EXPECT_EQ(config.rank_pattern, (Ranks{{"down_proj", 3}, {"model.layers.1.self_attn.q_proj", 4}}));
  EXPECT_EQ(config.alpha_pattern, (Alphas{{"model.layers.1.self_attn.v_proj", 5}}));
  auto again = base();
  load_adapter(again, folder / "again");
  expect_logits(again, "patterns");
}

// llama.cpp knows one alpha for all layers.
TEST(GoldenAdapters, SeveralScalesAreOneInAGgufAdapter) {
  const TemporaryFolder folder;
  auto loaded = base();
  load_adapters(loaded, {{adapter("patterns"), 0.7}, {adapter("rslora"), -0.3}});
  write_gguf_adapter(folder / "sum.gguf", loaded, described_adapter(*loaded.model));
  auto again = base();
  load_adapter(again, folder / "sum.gguf");
  expect_logits(again, "weighted");
}

TEST(GoldenAdapters, WhatCannotBeAddedIsRefused) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& name, const AdapterSpec& spec) {
    auto loaded = base();
    attach(*loaded.model, spec, 1);
    write_peft_adapter(folder / name, loaded, spec);
    return (folder / name);
  };
  const auto refusal = [](const std::vector<WeightedAdapter>& adapters) {
    auto loaded = base();
    try {
      load_adapters(loaded, adapters);
    } catch (const RecipeError& error) {
      EXPECT_FALSE(has_adapters(*loaded.model));
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  const auto dora = write("dora", {.kind = "dora", .rank = 2, .targets = {"q_proj"}, .modules_to_save = {}});
  const auto whole =
      write("whole", {.kind = "lora", .rank = 2, .targets = {"q_proj"}, .modules_to_save = {"lm_head"}});
  EXPECT_EQ(refusal({{dora, 1}}), "accepted");
  EXPECT_EQ(refusal({{whole, 1}}), "accepted");
  EXPECT_NE(refusal({{dora, 0.5}}).find("is DoRA, which is neither weighted nor added"), std::string::npos);
  EXPECT_NE(refusal({{adapter("rslora"), 1}, {dora, 1}}).find("dora: is DoRA"), std::string::npos);
  EXPECT_NE(refusal({{whole, 2}}).find("holds a whole layer (lm_head.weight)"), std::string::npos);
}

}  // namespace
}  // namespace retort
