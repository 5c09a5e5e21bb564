// What cannot be written is refused before training, by writing it dry and reading it back.
#include "export/rehearse.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"
#include "models/differing_config.h"
#include "models/read_config.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::string kModel =
    (std::filesystem::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf").string();

class Rehearsal : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
    loaded = load_model({.path = kModel});
  }
  std::string refusal(const ExportSpec& spec) {
    try {
      rehearse_exports(loaded, spec, {.kind = "none", .modules_to_save = {}}, parent);
    } catch (const RecipeError& error) { return error.what(); }
    return "";
  }
  TemporaryFolder temporary;
  const std::filesystem::path parent = std::filesystem::path(temporary / "runs") / "first";
  LoadedModel loaded;
};

TEST_F(Rehearsal, TakesWhatCanBeWrittenAndLeavesNothing) {
  const auto read = files_read().size(), written = files_written().size();
  EXPECT_EQ(refusal({.merged = "bf16", .gguf = {"F32", "Q4_K_M"}}), "");
  EXPECT_FALSE(std::filesystem::exists(parent.parent_path()));
  EXPECT_EQ(files_read().size(), read);
  EXPECT_EQ(files_written().size(), written);
}

// MiB of this process's memory: now ("VmRSS:"), or the most since the peak was set back ("VmHWM:").
double resident(const std::string& line) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word)
    if (word == line) {
      double kib = 0;
      status >> kib;
      return kib / 1024;
    }
  return 0;
}

// The merged folder is 258 MiB of holes; what is read of them would be pages of zeros.
TEST_F(Rehearsal, HoldsNoWeights) {
  std::ofstream peak("/proc/self/clear_refs");
  if (!(peak << 5 << std::flush)) GTEST_SKIP() << "the kernel does not set back the peak of memory";
  const auto before = resident("VmRSS:");
  EXPECT_EQ(refusal({.merged = "bf16", .gguf = {}}), "");
  EXPECT_LT(resident("VmHWM:") - before, 100);
}

TEST_F(Rehearsal, LeavesTheFolderThatWasThereAsItWas) {
  std::filesystem::create_directories(parent);
  write_text(parent / "kept", "kept");
  EXPECT_EQ(refusal({.merged = "none", .gguf = {"Q8_0"}}), "");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(parent), {}), 1);
  EXPECT_EQ(read_text(parent / "kept"), "kept");
}

TEST_F(Rehearsal, RefusesAGgufFileThatWouldHoldAnotherModel) {
  loaded.model->config.sliding_window = 64;  // in one layer, which GGUF cannot say of a llama
  loaded.model->config.sliding_layers.assign(static_cast<size_t>(loaded.model->config.layers), false);
  loaded.model->config.sliding_layers[1] = true;
  const auto reason = refusal({.merged = "none", .gguf = {"Q8_0"}});
  EXPECT_NE(
      reason.find("export.gguf Q8_0: this model cannot be written so: attention window of layer 1: 64 was "
                  "written, 0 reads back"),
      std::string::npos)
      << reason;
}

TEST_F(Rehearsal, RefusesBlocksThatDoNotFitWithoutFallback) {
  const auto reason = refusal({.merged = "none", .gguf = {"Q4_K_M"}, .fallback = false});
  EXPECT_NE(reason.find("export.fallback: "), std::string::npos) << reason;
}

TEST(DifferingConfig, FindsEachKindOfDifferenceAndNoOther) {
  const auto golden = [](const char* family) {
    return load_weights(
               {.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string()})
        .model->config;
  };
  for (const auto* family : {"llama", "qwen2", "gemma2", "gemma3", "phi3", "mixtral", "qwen3_moe"}) {
    const auto config = golden(family);
    auto renamed = config;
    renamed.hf_architecture = "Other", renamed.eos = {1, 2};
    renamed.norm_epsilon *= 1 + 1e-7;  // fp32
    EXPECT_EQ(what_reads_back_otherwise(config, renamed), std::nullopt) << family;
    const auto found = [&](auto&& change) {
      auto other = config;
      change(other);
      return what_reads_back_otherwise(config, other).value_or("");
    };
    EXPECT_NE(found([](auto& c) { c.rope.theta *= 2; }).find("rotary embedding"), std::string::npos)
        << family;
    EXPECT_NE(found([](auto& c) { c.norm_epsilon *= 1.1; }).find("epsilon"), std::string::npos);
    EXPECT_NE(found([](auto& c) { c.final_soft_cap += 1; }).find("soft cap of the logits"),
              std::string::npos);
    EXPECT_NE(found([](auto& c) { c.attention_scale = 0.9; }).find("scale of attention"), std::string::npos);
    EXPECT_NE(found([](auto& c) { c.tied_head = !c.tied_head; }).find("tied head"), std::string::npos);
    EXPECT_NE(
        found([](auto& c) { c.sliding_window += 7, c.sliding_layers.clear(); }).find("attention window"),
        std::string::npos);
  }
}

}  // namespace
}  // namespace retort
