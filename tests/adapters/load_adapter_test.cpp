// Adapters read back: on their own base bit for bit, on any other not at all.
#include "adapters/load_adapter.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "adapters/attach.h"
#include "adapters/merge.h"
#include "base/error.h"
#include "export/artefacts.h"
#include "formats/peft_folder.h"
#include "where.h"  // tests

namespace retort {
namespace {

class LoadAdapter : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder); }
  void TearDown() override { std::filesystem::remove_all(folder); }

  static LoadedModel base(const std::string& family = "llama") {
    return load_weights(
        {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string(),
         .compute = "f32"});
  }
  // A trained model: every leaf is moved away from where it starts.
  static LoadedModel trained(const AdapterSpec& spec) {
    auto loaded = base();
    for (const auto& leaf : attach(*loaded.model, spec, 7)) {
      const at::NoGradGuard no_grad;
      leaf.tensor->add_(0.01 * at::arange(leaf.tensor->numel()).reshape(leaf.tensor->sizes()).cos());
    }
    return loaded;
  }
  std::filesystem::path write(LoadedModel& loaded, const AdapterSpec& spec,
                              const std::string& base_hash) const {
    PeftConfig config;
    config.r = spec.rank;
    config.lora_alpha = spec.alpha;
    config.use_dora = spec.kind == "dora";
    config.use_rslora = spec.kind == "rslora";
    config.target_modules = {"q_proj", "down_proj"};
    config.modules_to_save = spec.modules_to_save;
    std::vector<TensorSource> sources;
    for (const auto& leaf : trainables(*loaded.model))
      sources.push_back(tensor_source(
          leaf.name, WeightType::f32, leaf.tensor->sizes().vec(),
          {static_cast<const std::byte*>(leaf.tensor->const_data_ptr()), leaf.tensor->nbytes()}));
    write_peft_folder(folder / "adapter", config, sources, {{kBaseHashKey, base_hash}});
    return folder / "adapter";
  }
  static std::string refusal(LoadedModel& loaded, const std::filesystem::path& path) {
    try {
      load_adapter(loaded, path);
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::bad_input);
      return error.what();
    }
    return "accepted";
  }
  std::filesystem::path folder =
      std::filesystem::temp_directory_path() / fmt::format("retort_load_adapter_{}", getpid());
};

AdapterSpec spec_of(const std::string& kind) {
  return {.kind = kind, .rank = 4, .alpha = 8, .targets = {"q_proj", "down_proj"}, .modules_to_save = {}};
}

TEST_F(LoadAdapter, EveryKindComesBackBitForBit) {
  for (const char* kind : {"lora", "rslora", "dora"}) {
    auto spec = spec_of(kind);
    if (spec.kind == "lora") spec.modules_to_save = {"lm_head", "norm"};
    auto model = trained(spec), again = base();
    load_adapter(again, write(model, spec, model.sha256.get()));
    const auto before = trainables(*model.model), after = trainables(*again.model);
    ASSERT_EQ(before.size(), after.size()) << kind;
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(before[i].name, after[i].name);
      EXPECT_TRUE(at::equal(*before[i].tensor, *after[i].tensor)) << kind << " " << before[i].name;
    }
    for (const auto* layer : again.model->linears()) {
      if (layer->adapter) { EXPECT_EQ(layer->adapter->scaling, spec.scaling()) << kind; }
    }
  }
}

TEST_F(LoadAdapter, ASecondAdapterIsRefused) {
  const auto spec = spec_of("lora");
  auto model = trained(spec);
  const auto path = write(model, spec, model.sha256.get());
  EXPECT_NE(refusal(model, path).find("carries an adapter already"), std::string::npos);
}

TEST_F(LoadAdapter, AMergedModelIsAnotherBase) {
  const auto spec = spec_of("lora");
  auto model = trained(spec);
  const auto path = write(model, spec, model.sha256.get());
  merge_adapters(model);
  EXPECT_NE(refusal(model, path).find("load it on its own base"), std::string::npos);
}

TEST_F(LoadAdapter, AnotherModelIsRefusedByHashAndByShape) {
  const auto spec = spec_of("lora");
  auto model = trained(spec);
  auto other = base("qwen3");
  EXPECT_NE(refusal(other, write(model, spec, model.sha256.get())).find("load it on its own base"),
            std::string::npos);
  const auto unnamed = refusal(
      other, write(model, spec, other.sha256.get()));  // as a tool would write it that does not know the hash
  EXPECT_NE(unnamed.find("is it another model's adapter?"), std::string::npos) << unnamed;
  EXPECT_FALSE(has_adapters(*other.model));
}

// The same model in blocks and in 16 bits: said, not refused. One that holds the adapter already is refused,
// whatever its precision; so are two files of which neither is in blocks.
TEST_F(LoadAdapter, AnAdapterOfAQuantizedFileGoesOnItsOriginalWithANote) {
  auto spec = spec_of("lora");
  spec.targets = {"q_proj", "up_proj"};  // of 32 columns: a block
  const auto quantized = [&] {
    auto loaded = base();
    for (auto* layer : loaded.model->linears())
      layer->weight = convert_weight(layer->weight, fitting_type(WeightType::q8_0, layer->weight.columns));
    loaded.sha256 = std::string(64, 'a');
    return loaded;
  };
  auto model = quantized();
  for (const auto& leaf : attach(*model.model, spec, 7)) {
    const at::NoGradGuard no_grad;
    leaf.tensor->add_(0.02 * at::arange(leaf.tensor->numel()).reshape(leaf.tensor->sizes()).cos());
  }
  write_peft_adapter(folder / "adapter", model, spec);
  auto own = quantized(), original = base(), merged = base();
  EXPECT_TRUE(load_adapter(own, folder / "adapter").empty());
  const auto notes = load_adapter(original, folder / "adapter");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("was trained on another file, of Q8_0 weights (sha256 aaaaaaaaaaaaaaaa...)"),
            std::string::npos)
      << notes[0];
  EXPECT_TRUE(has_adapters(*original.model));
  merge_adapters(original);
  EXPECT_NE(refusal(original, folder / "adapter").find("holds this adapter already"), std::string::npos);
  merge_adapters(own);
  EXPECT_NE(refusal(own, folder / "adapter").find("holds this adapter already"), std::string::npos);
  // The other way round: tuned in 16 bits, put on blocks.
  auto dense = trained(spec), blocks = quantized();
  write_peft_adapter(folder / "dense", dense, spec);
  EXPECT_EQ(load_adapter(blocks, folder / "dense").size(), 1u);
}

}  // namespace
}  // namespace retort
