// export.merged: keep: the base's own shards, in which only what was trained is written anew.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "adapters/attach.h"
#include "adapters/merge.h"
#include "export/artefacts.h"
#include "export/rehearse.h"
#include "export/tiny_models.h"  // tests/export
#include "models/fp8_folder.h"   // tests/models

namespace retort {
namespace {

namespace fs = std::filesystem;

Fp8Form form_of(const std::string& kind) {
  Fp8Form form;
  if (kind == "powers") form.quantization["scale_fmt"] = "ue8m0", form.scale_type = WeightType::f8_e8m0;
  if (kind == "bf16") form.scale_type = WeightType::bf16;
  if (kind == "one") form.block = 0, form.quantization.erase("weight_block_size");
  if (kind == "rows") {
    form.block = -1, form.suffix = "_scale";
    form.quantization = {
        {"quant_method", "compressed-tensors"},
        {"format", "float-quantized"},
        {"config_groups",
         {{"group_0", {{"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}}}}}}}};
  }
  return form;
}

class KeptFolder : public testing::Test {
 protected:
  const Fp8Pair pair;
  const std::string base = pair.fp8(), out = pair.folder / "out";

  void make(const std::string& family, const Fp8Form& form) {
    write_fp8_pair(pair, family, form);
    for (const auto& folder : {pair.fp8(), pair.plain()}) {
      write_text(fs::path(folder) / "tokenizer.json", tiny_tokenizer(96).dump());
      write_text(fs::path(folder) / "tokenizer_config.json",
                 Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}}).dump());
    }
  }
  // With an adapter on the layers named so, whose update is about `size` large.
  LoadedModel adapted(const std::string& path, const std::vector<std::string>& targets, double size) {
    auto loaded = load_model({.path = path, .compute = "f32"});
    const AdapterSpec spec{.kind = "lora", .rank = 2, .alpha = 2, .targets = targets, .modules_to_save = {}};
    const at::NoGradGuard no_graph;
    for (auto& [name, tensor, place] : attach(*loaded.model, spec, 1))
      if (name.find("lora_B") != std::string::npos)
        tensor->copy_(at::arange(tensor->numel(), at::kFloat).sin().view_as(*tensor).mul_(size));
    return loaded;
  }
};

class KeptForms : public KeptFolder, public testing::WithParamInterface<const char*> {};

std::set<std::string> shards_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") names.insert(entry.path().filename().string());
  return names;
}

bool same_bytes(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

Tensor numbers_of(const TensorView& view) {
  auto values = at::empty(view.shape, at::TensorOptions(at::kFloat));
  dequantize_rows(view.type, view.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
  return values;
}

TEST_P(KeptForms, OnlyWhatWasTrainedIsWrittenAnewByTheRuleOfTheBase) {
  const std::string kind = GetParam();
  make("llama", form_of(kind));
  auto loaded = adapted(base, {"q_proj", "down_proj"}, 0.5);
  const auto artefact = write_kept_folder(out, loaded, 2);
  EXPECT_EQ(artefact.label, "F8_E4M3");
  EXPECT_GT(artefact.delta_error, 0);

  ASSERT_GT(shards_in(base).size(), 1u);
  EXPECT_EQ(shards_in(out), shards_in(base));
  for (const char* name : {"config.json", "model.safetensors.index.json"})
    EXPECT_EQ(read_text(fs::path(out) / name), read_text(fs::path(base) / name)) << name;
  const auto before = open_safetensors_folder(base), after = open_safetensors_folder(out);
  ASSERT_EQ(before.tensors.size(), after.tensors.size());
  for (const auto& tensor : before.tensors) {
    const auto& written = *after.find(tensor.name);
    const bool trained =
        tensor.name.find("q_proj") != std::string::npos || tensor.name.find("down_proj") != std::string::npos;
    EXPECT_EQ(written.type, tensor.type);
    EXPECT_EQ(written.shape, tensor.shape);
    if (!trained) { EXPECT_TRUE(same_bytes(written.data, tensor.data)) << tensor.name; }
    if (trained && tensor.type == WeightType::f8_e4m3) {
      EXPECT_FALSE(same_bytes(written.data, tensor.data)) << tensor.name;
    }
  }
  const auto powers = kind == "powers";
  for (const auto* layer : std::as_const(*loaded.model).linears()) {
    if (!layer->adapter) continue;
    const auto merged = merged_rows(*layer, 0, layer->weight.rows).contiguous();
    const auto name = layer->name + ".weight";
    const auto codes = numbers_of(*after.find(name)),
               scales = numbers_of(*after.find(name + form_of(kind).suffix));
    const auto rows = merged.size(0), columns = merged.size(1), block_rows = layer->weight.scale_rows,
               block_columns = layer->weight.scale_columns,
               across = (columns + block_columns - 1) / block_columns;
    for (int64_t r = 0; r < rows; r += block_rows)
      for (int64_t c = 0; c < columns; c += block_columns) {
        const auto part = merged.narrow(0, r, std::min(block_rows, rows - r))
                              .narrow(1, c, std::min(block_columns, columns - c));
        auto scale = part.abs().max().item<float>() / 448;
        if (powers) scale = std::exp2(std::ceil(std::log2(scale)));
        if (kind == "bf16") scale = bf16_to_float(float_to_bf16(scale));
        EXPECT_EQ(scales.flatten()[r / block_rows * across + c / block_columns].item<float>(), scale)
            << name << " " << r << " " << c;
        for (int64_t i = 0; i < part.size(0); ++i)
          for (int64_t j = 0; j < part.size(1); ++j) {
            const auto value = part[i][j].item<float>() / scale;
            const auto found = codes[r + i][c + j].item<float>(),
                       nearest = f8_e4m3_to_float(nearest_code(value));
            ASSERT_EQ(std::abs(found - value), std::abs(nearest - value))
                << name << " " << r + i << " " << c + j;
          }
      }
  }
  // What others read of it is what the codes say, and near the trained model.
  const auto opened = load_model({.path = out, .compute = "f32"});
  Forest forest;
  forest.add_segment({1, 14, 15, 92, 65, 35, 8, 9, 79, 32, 38, 46, 26, 43, 38});
  const at::NoGradGuard no_graph;
  const auto pass = make_pass(forest, at::kFloat);
  const auto hidden = [&](const LoadedModel& model) { return model.model->hidden(pass); };
  const auto trained = hidden(loaded), untrained = hidden(load_model({.path = base, .compute = "f32"}));
  const auto far = [&](const Tensor& other) { return (other - trained).norm().item<double>(); };
  EXPECT_LT(far(hidden(opened)), 0.5 * far(untrained));
}

INSTANTIATE_TEST_SUITE_P(, KeptForms, testing::Values("blocks", "powers", "bf16", "rows", "one"));

TEST_F(KeptFolder, WithoutATrainingEveryShardIsTheBases) {
  for (const double size : {0.0, 0.05}) {
    if (size > 0) make("deepseek_v3", {});
    else make("qwen3_moe", {});
    auto loaded = size > 0 ? load_model({.path = base, .compute = "f32"}) : adapted(base, {"all"}, 0);
    const auto artefact = write_kept_folder(out, loaded, 1);
    EXPECT_EQ(artefact.delta_error, 0);
    EXPECT_TRUE(artefact.vanished.empty());
    for (const auto& name : shards_in(base))
      EXPECT_EQ(read_text(fs::path(out) / name), read_text(fs::path(base) / name)) << name;
    fs::remove_all(base), fs::remove_all(pair.plain()), fs::remove_all(out);
  }
}

TEST_F(KeptFolder, UpdatesThatVanishAreNamed) {
  make("llama", form_of("powers"));
  auto loaded = adapted(base, {"q_proj"}, 1e-4);
  const auto artefact = write_kept_folder(out, loaded, 1);
  ASSERT_EQ(artefact.vanished.size(), static_cast<size_t>(loaded.model->config.layers));
  EXPECT_NE(artefact.vanished[0].find("model.layers.0.self_attn.q_proj.weight ("), std::string::npos)
      << artefact.vanished[0];
  EXPECT_NE(artefact.vanished[0].find("% of its update is left)"), std::string::npos);
}

TEST_F(KeptFolder, TheBytesDoNotDependOnTheThreadsAndFloatsStayFloats) {
  make("llama", {});
  auto loaded = adapted(base, {"all"}, 0.05);
  write_kept_folder(out, loaded, 1);
  write_kept_folder(pair.folder / "again", loaded, 3);
  for (const auto& name : shards_in(base))
    EXPECT_EQ(read_text(fs::path(out) / name), read_text(fs::path(pair.folder / "again") / name)) << name;
  auto plain = adapted(pair.plain(), {"v_proj"}, 0.05);  // F32: nothing is rounded
  EXPECT_EQ(write_kept_folder(pair.folder / "plain-out", plain, 1).delta_error, 0);
  const auto after = open_safetensors_folder(pair.folder / "plain-out");
  for (const auto* layer : std::as_const(*plain.model).linears())
    EXPECT_TRUE(at::equal(numbers_of(*after.find(layer->name + ".weight")),
                          merged_rows(*layer, 0, layer->weight.rows)))
        << layer->name;
}

TEST_F(KeptFolder, WhatCannotBeKeptIsRefusedBeforeTheTraining) {
  make("llama", {});
  ExportSpec keep;
  keep.merged = "keep", keep.gguf.clear();
  const AdapterSpec lora{.kind = "lora", .targets = {"all"}, .modules_to_save = {}};
  const auto refusal = [&](const ModelSpec& model) {
    auto loaded = load_model(model);
    return refusal_of([&] { rehearse_exports(loaded, keep, lora, pair.folder / "runs"); });
  };
  EXPECT_EQ(refusal({.path = base}), "accepted");
  EXPECT_FALSE(fs::exists(fs::path(pair.folder / "runs")));
  auto loaded = load_model({.path = base});
  write_gguf_model(pair.folder / "m.gguf", loaded, *mixture_from_name("F32"), true, 1);
  EXPECT_NE(refusal({.path = pair.folder / "m.gguf"}).find("m.gguf is no safetensors folder"),
            std::string::npos);
  const auto added = refusal({.path = base, .add_tokens = {"<law>"}});
  EXPECT_NE(added.find("export.merged: keep: model.embed_tokens.weight is [96, "), std::string::npos)
      << added;
  const auto four = tiny_folder(pair.folder / "four", "four_bit/mxfp4", tiny_tokenizer(96)).string();
  EXPECT_NE(refusal({.path = four}).find("matrices of 4-bit codes (mxfp4-pack-quantized)"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
