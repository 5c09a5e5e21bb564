// What adapter_config.json says is what was trained, by PEFT's rules.
#include <gtest/gtest.h>

#include <cmath>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/json.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/weight_file.h"

namespace retort {
namespace {

// PEFT joins two matrices of an expert into one of rank 2 r with 2 alpha: equal for alpha / r, sqrt 2 too
// large for alpha / sqrt r.
TEST(PeftAdapter, RsLoraOnExpertsIsWrittenAsPlainLora) {
  for (const bool experts : {true, false}) {
    const TemporaryFolder folder;
    auto loaded = tiny_model(folder, "qwen3_moe");
    const AdapterSpec spec{.kind = "rslora",
                           .rank = 4,
                           .alpha = 6,
                           .targets = {experts ? "all" : "q_proj"},
                           .modules_to_save = {}};
    attach(*loaded.model, spec, 1);
    write_peft_adapter(folder / "adapter", loaded, spec);
    const auto config = read_json(std::filesystem::path(folder / "adapter") / "adapter_config.json");
    EXPECT_EQ(config["use_rslora"], !experts);
    EXPECT_EQ(config["lora_alpha"], experts ? 12 : 6);
    auto again = load_model({.path = folder / "tiny"});
    load_adapter(again, folder / "adapter");
    for (const auto* layer : again.model->linears()) {
      if (layer->adapter) { EXPECT_DOUBLE_EQ(layer->adapter->scaling, 3); }
    }
  }
}

TEST(PeftAdapter, DoraOnExpertsIsRefused) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder, "qwen3_moe");
  AdapterSpec spec{.kind = "dora", .rank = 4, .targets = {"all"}, .modules_to_save = {}};
  const auto said = refusal_of([&] { attach(*loaded.model, spec, 1); });
  EXPECT_NE(said.find("adapter.kind: dora on experts"), std::string::npos) << said;
  EXPECT_FALSE(has_adapters(*loaded.model));
  spec.targets = {"q_proj", "o_proj"};
  EXPECT_EQ(refusal_of([&] { attach(*loaded.model, spec, 1); }), "accepted");
}

// PEFT wraps the whole multimodal model: the text layers are named as they stand in it, and no layer of
// another part that happens to have the same last name is a target.
TEST(PeftAdapter, OfATextPartIsNamedForTheWholeModel) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder, "gemma3");
  loaded.multimodal = true;
  const AdapterSpec spec{.kind = "lora", .rank = 4, .targets = {"q_proj"}, .modules_to_save = {}};
  attach(*loaded.model, spec, 1);
  write_peft_adapter(folder / "adapter", loaded, spec);
  const auto config = read_json(std::filesystem::path(folder / "adapter") / "adapter_config.json");
  EXPECT_EQ(config["target_modules"].size(), 3u);
  EXPECT_EQ(config["target_modules"][0], "model.language_model.layers.0.self_attn.q_proj");
  const auto file = open_safetensors(folder / "adapter/adapter_model.safetensors");
  EXPECT_TRUE(file.find("base_model.model.model.language_model.layers.2.self_attn.q_proj.lora_B.weight"));
  auto again = load_model({.path = folder / "tiny"});
  load_adapter(again, folder / "adapter");
  EXPECT_TRUE(has_adapters(*again.model));
}

// "norm" is the end of "input_layernorm" too, and PEFT would take both.
TEST(PeftAdapter, ModulesThatWereSavedAreNamedSoThatNoOthersMatch) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder);
  const AdapterSpec spec{.kind = "lora",
                         .rank = 4,
                         .targets = {"q_proj"},
                         .modules_to_save = {"norm", "lm_head", "input_layernorm"}};
  attach(*loaded.model, spec, 1);
  write_peft_adapter(folder / "adapter", loaded, spec);
  const auto config = read_json(std::filesystem::path(folder / "adapter") / "adapter_config.json");
  EXPECT_EQ(config["modules_to_save"], Json({"model.norm", "lm_head", "input_layernorm"}));
}

// As PEFT's state dicts call them, and files of other tools.
TEST(PeftAdapter, NamesWithTheAdaptersOwnAreRead) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder);
  const AdapterSpec spec{.kind = "dora", .rank = 4, .targets = {"q_proj"}, .modules_to_save = {"lm_head"}};
  const auto leaves = attach(*loaded.model, spec, 1);
  write_peft_adapter(folder / "adapter", loaded, spec);
  std::vector<TensorSource> renamed;
  for (const auto& leaf : leaves) {
    auto name = leaf.name;
    const auto put = [&](const std::string& after, const std::string& what) {
      if (const auto at = name.find(after); at != std::string::npos) name.insert(at + after.size(), what);
    };
    for (const char* part : {"lora_A", "lora_B", "lora_magnitude_vector"}) put(part, ".default");
    put("lm_head", ".modules_to_save.default");
    EXPECT_NE(name, leaf.name);
    renamed.push_back(
        tensor_source(name, WeightType::f32, leaf.tensor->sizes().vec(),
                      {static_cast<const std::byte*>(leaf.tensor->const_data_ptr()), leaf.tensor->nbytes()}));
  }
  write_safetensors(folder / "adapter/adapter_model.safetensors", renamed, {});
  auto again = load_model({.path = folder / "tiny"});
  load_adapter(again, folder / "adapter");
  const auto read = trainables(*again.model);
  ASSERT_EQ(read.size(), leaves.size());
  for (size_t i = 0; i < read.size(); ++i) EXPECT_TRUE(at::equal(*read[i].tensor, *leaves[i].tensor));
}

}  // namespace
}  // namespace retort
