// Numbers that are none, and numbers too large for a type: named when a file is read or written, and no
// comparison passes over them.
#include <gtest/gtest.h>

#include <fstream>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/weight_file.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// Overwrites bytes of one tensor of a safetensors or GGUF file.
void spoil(const fs::path& file, const std::string& tensor, size_t offset, const std::string& bytes) {
  size_t place = 0;
  {
    const auto weights = file.extension() == ".gguf" ? open_gguf(file) : open_safetensors(file);
    const auto* found = weights.find(tensor);
    ASSERT_NE(found, nullptr) << tensor;
    place =
        static_cast<size_t>(reinterpret_cast<const char*>(found->data.data()) - found->file->text().data()) +
        offset;
  }
  std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
  out.seekp(static_cast<std::streamoff>(place));
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

const std::string kNan("\x00\x00\xC0\x7F", 4), kHalfInfinity("\x00\x7C", 2);

TEST(NotFinite, WeightsAreNamedOnLoad) {
  for (const std::string name :
       {"model.layers.1.mlp.down_proj.weight", "model.norm.weight", "model.embed_tokens.weight"}) {
    const TemporaryFolder folder;
    const auto path = tiny_folder(folder / "tiny", "llama", tiny_tokenizer(96));
    spoil(path / "model.safetensors", name, 2 * 5, kNan.substr(2));  // bf16
    const auto said = refusal_of([&] { load_model({.path = path.string()}); });
    EXPECT_NE(
        said.find("model.safetensors: " + name + ": holds a number that is not finite (row 0, column 5)"),
        std::string::npos)
        << said;
  }
}

TEST(NotFinite, ScalesOfBlocksAreNamedOnLoad) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder);
  const auto file = folder / "model.gguf";
  write_gguf_model(file, loaded, *mixture_from_name("Q8_0"), true, 1);
  EXPECT_EQ(refusal_of([&] { load_model({.path = file}); }), "accepted");
  spoil(file, "blk.0.attn_v.weight", 34 * 3, kHalfInfinity);  // rows of one block
  const auto said = refusal_of([&] { load_model({.path = file}); });
  EXPECT_NE(said.find("blk.0.attn_v.weight: holds a number that is not finite (row 3, column 0)"),
            std::string::npos)
      << said;
}

TEST(NotFinite, AdaptersAreNamedOnLoad) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder);
  const AdapterSpec spec{.kind = "lora", .rank = 4, .targets = {"q_proj"}, .modules_to_save = {}};
  attach(*loaded.model, spec, 1);
  write_peft_adapter(folder / "adapter", loaded, spec);
  const std::string name = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
  spoil(folder / "adapter/adapter_model.safetensors", name, 4 * 7, kNan);
  auto base = load_model({.path = folder / "tiny"});
  const auto said = refusal_of([&] { load_adapter(base, folder / "adapter"); });
  EXPECT_NE(said.find(name + ": holds a number that is not finite (element 7)"), std::string::npos) << said;
  EXPECT_FALSE(has_adapters(*base.model));
}

// 2^17 is a number of fp32 and bf16 and none of f16.
TEST(NotFinite, WhatATypeCannotHoldIsRefusedByName) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder);
  auto* layer = loaded.model->linears()[2];
  layer->weight = dense_weight(layer->weight.dense.clone());
  layer->weight.dense[1][2] = 131072;
  const auto folder_said =
      refusal_of([&] { write_hf_folder(folder / "merged", loaded, WeightType::f16, uint64_t{1} << 30, 1); });
  EXPECT_NE(folder_said.find(layer->name + ".weight has values of up to 1.311e+05, which F16 cannot hold"),
            std::string::npos)
      << folder_said;
  EXPECT_FALSE(fs::exists(folder / "merged"));
  const auto file_said =
      refusal_of([&] { write_gguf_model(folder / "f16.gguf", loaded, *mixture_from_name("F16"), true, 2); });
  EXPECT_NE(file_said.find("which F16 cannot hold"), std::string::npos) << file_said;
  EXPECT_EQ(
      refusal_of([&] { write_hf_folder(folder / "merged", loaded, WeightType::bf16, uint64_t{1} << 30, 1); }),
      "accepted");
}

}  // namespace
}  // namespace retort
