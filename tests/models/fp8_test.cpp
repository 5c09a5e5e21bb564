// Folders of F8_E4M3 with scales: the same numbers as a folder of their decoded values.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/model.h"
#include "models/read_config.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

const auto kGolden = std::filesystem::path(RETORT_SOURCE_DIR) / "tests/golden/models";

uint8_t nearest_code(float value) {
  uint8_t best = 0;
  for (int code = 0; code < 127; ++code)
    if (std::abs(kF8E4m3Magnitudes[static_cast<size_t>(code)] - std::abs(value)) <
        std::abs(kF8E4m3Magnitudes[best] - std::abs(value)))
      best = static_cast<uint8_t>(code);
  return value < 0 ? best | 128 : best;
}

struct Written {
  std::vector<uint8_t> codes;
  std::vector<float> scales, decoded;
  std::vector<int64_t> grid;
};

// `block` 0: one scale; -1: one a row.
Written encode(const Tensor& matrix, int64_t block, bool power_of_two) {
  const auto rows = matrix.size(0), columns = matrix.size(1);
  const auto block_rows = block > 0    ? block
                          : block == 0 ? rows
                                       : 1,
             block_columns = block > 0 ? block : columns;
  const auto parts = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  Written written;
  written.grid = {parts(rows, block_rows), parts(columns, block_columns)};
  written.codes.resize(static_cast<size_t>(rows * columns)), written.decoded.resize(written.codes.size());
  const auto* values = matrix.const_data_ptr<float>();
  for (int64_t r = 0; r < rows; r += block_rows)
    for (int64_t c = 0; c < columns; c += block_columns) {
      const auto part = matrix.narrow(0, r, std::min(block_rows, rows - r))
                            .narrow(1, c, std::min(block_columns, columns - c));
      auto scale = part.abs().max().item<float>() / 448;
      if (power_of_two) scale = std::exp2(std::ceil(std::log2(scale)));
      else scale = bf16_to_float(float_to_bf16(scale));
      written.scales.push_back(scale);
      for (int64_t i = r; i < std::min(rows, r + block_rows); ++i)
        for (int64_t j = c; j < std::min(columns, c + block_columns); ++j) {
          const auto at = static_cast<size_t>(i * columns + j);
          written.codes[at] = nearest_code(values[at] / scale);
          written.decoded[at] = f8_e4m3_to_float(written.codes[at]) * scale;
        }
    }
  return written;
}

struct Pair {
  TemporaryFolder folder;
  std::string fp8() const { return folder / "fp8"; }
  std::string plain() const { return folder / "plain"; }
};

struct Form {
  int64_t block = 16;
  WeightType scale_type = WeightType::f32;
  Json quantization = {{"quant_method", "fp8"},
                       {"fmt", "e4m3"},
                       {"activation_scheme", "dynamic"},
                       {"weight_block_size", {16, 16}}};
  std::string suffix = "_scale_inv";
};

// A golden model with its attention, feed-forward and expert matrices in F8_E4M3, in many small shards, and
// the same model of decoded values in fp32.
void write(const Pair& pair, const std::string& family, const Form& form) {
  const auto original = open_safetensors_folder(kGolden / family);
  std::vector<TensorSource> fp8, plain;
  const auto add = [](std::vector<TensorSource>& to, const std::string& name, WeightType type,
                      std::vector<int64_t> shape, auto values) {
    to.push_back({name, type, std::move(shape),
                  [values](const auto& sink) { sink(std::as_bytes(std::span(values))); }});
  };
  for (const auto& tensor : original.tensors) {
    auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
    dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
    const std::vector<float> list(values.const_data_ptr<float>(),
                                  values.const_data_ptr<float>() + values.numel());
    const auto& name = tensor.name;
    const bool converted = name.ends_with("_proj.weight") || name.ends_with("_mqa.weight") ||
                           name.ends_with(".wk.weight") || name.ends_with(".wq_b.weight");
    if (!converted || name.find("weights_proj") != std::string::npos) {
      for (auto* to : {&fp8, &plain}) add(*to, name, WeightType::f32, tensor.shape, list);
      continue;
    }
    const auto written = encode(values, form.block, form.scale_type == WeightType::f8_e8m0);
    add(plain, name, WeightType::f32, tensor.shape, written.decoded);
    add(fp8, name, WeightType::f8_e4m3, tensor.shape, written.codes);
    const auto scale_name = name + form.suffix;
    if (form.scale_type == WeightType::f32) {
      add(fp8, scale_name, WeightType::f32, written.grid, written.scales);
    } else if (form.scale_type == WeightType::bf16) {
      std::vector<uint16_t> words;
      for (const auto scale : written.scales) words.push_back(float_to_bf16(scale));
      add(fp8, scale_name, WeightType::bf16, written.grid, words);
    } else {
      std::vector<uint8_t> exponents;
      for (const auto scale : written.scales)
        exponents.push_back(static_cast<uint8_t>(127 + std::ilogb(scale)));
      add(fp8, scale_name, WeightType::f8_e8m0, written.grid, exponents);
    }
  }
  auto config = read_json(kGolden / family / "config.json");
  write_safetensors_folder(pair.plain(), plain, 1 << 30);
  write_text(std::filesystem::path(pair.plain()) / "config.json", config.dump());
  write_safetensors_folder(pair.fp8(), fp8, 9000);  // weights and scales in different shards
  config["quantization_config"] = form.quantization;
  write_text(std::filesystem::path(pair.fp8()) / "config.json", config.dump());
}

Tensor logits_of(const std::string& path, at::ScalarType compute) {
  const auto loaded = load_weights({.path = path});
  Forest forest;
  forest.add_segment({3, 14, 15, 92, 65, 35, 8, 9, 79, 32, 38, 46, 26, 43, 38});
  const at::NoGradGuard no_graph;
  const auto pass = make_pass(forest, compute);
  std::vector<int32_t> rows(15);
  std::iota(rows.begin(), rows.end(), 0);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

void expect_equal(const std::string& family, const Form& form) {
  const Pair pair;
  write(pair, family, form);
  for (const auto& entry : std::filesystem::directory_iterator(pair.fp8()))
    ASSERT_NE(entry.path().filename().string(), "model.safetensors") << "one shard alone";
  EXPECT_TRUE(at::equal(logits_of(pair.fp8(), at::kFloat), logits_of(pair.plain(), at::kFloat)));
  // In bf16 the decoded values are rounded once, as those of the plain folder are.
  EXPECT_TRUE(at::equal(logits_of(pair.fp8(), at::kBFloat16), logits_of(pair.plain(), at::kBFloat16)));
}

TEST(Fp8, BlocksOfScalesEqualTheirDecodedValues) {  // 28 rows of kv_a_proj_with_mqa: a ragged last block
  for (const auto* family : {"deepseek_v3", "deepseek_v32", "qwen3_moe"}) expect_equal(family, {});
  expect_equal("deepseek_v3", {.scale_type = WeightType::bf16});
  expect_equal("deepseek_v3", {.scale_type = WeightType::f8_e8m0});
}

TEST(Fp8, AScaleForEachRowAndOneForAll) {
  Form rows{.block = -1};
  rows.quantization = {
      {"quant_method", "compressed-tensors"},
      {"format", "float-quantized"},
      {"ignore", {"lm_head"}},
      {"config_groups",
       {{"group_0",
         {{"targets", {"Linear"}},
          {"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}, {"symmetric", true}}},
          {"input_activations", {{"num_bits", 8}, {"type", "float"}, {"dynamic", true}}}}}}}};
  rows.suffix = "_scale";
  expect_equal("llama", rows);
  Form all{.block = 0};
  all.quantization.erase("weight_block_size");
  expect_equal("llama", all);
}

TEST(Fp8, TheCopyOfADecodedMatrixIsThatOfItsValues) {
  const Pair pair;
  write(pair, "deepseek_v3", {});
  const auto kept = load_weights({.path = pair.fp8()}),
             wide = load_weights({.path = pair.fp8(), .weights = "bf16"}),
             plain = load_weights({.path = pair.plain(), .weights = "bf16"});
  const auto stored = kept.model->linears(), converted = wide.model->linears(),
             expected = plain.model->linears();
  for (size_t i = 0; i < stored.size(); ++i) {
    EXPECT_TRUE(stored[i]->weight.scales.defined()) << stored[i]->name;
    EXPECT_TRUE(at::equal(converted[i]->weight.dense, expected[i]->weight.dense)) << stored[i]->name;
  }
}

// DeepSeek's folders hold a layer more than num_hidden_layers says, which predicts a second token.
TEST(Deepseek, LayersBehindTheLastAreReadOver) {
  const TemporaryFolder folder;
  const auto original = open_safetensors_folder(kGolden / "deepseek_v3");
  std::vector<TensorSource> tensors;
  for (const auto& tensor : original.tensors) {
    tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
    constexpr std::string_view kLast = "model.layers.2.";
    if (tensor.name.starts_with(kLast))
      tensors.push_back(tensor_source("model.layers.3." + tensor.name.substr(kLast.size()), tensor.type,
                                      tensor.shape, tensor.data));
  }
  const std::filesystem::path path = folder / "mtp";
  write_safetensors_folder(path, tensors, 1 << 30);
  std::filesystem::copy_file(kGolden / "deepseek_v3/config.json", path / "config.json");
  EXPECT_EQ(load_weights({.path = path.string()}).beyond, tensors.size() - original.tensors.size());
  EXPECT_EQ(load_weights({.path = (kGolden / "deepseek_v3").string()}).beyond, 0u);
  EXPECT_TRUE(at::equal(logits_of(path.string(), at::kFloat),
                        logits_of((kGolden / "deepseek_v3").string(), at::kFloat)));
}

TEST(Fp8, RefusesByNameWhatItDoesNotKnow) {
  const auto refusal = [](const Json& quantization) -> std::string {
    auto json = read_json(kGolden / "deepseek_v3/config.json");
    json["quantization_config"] = quantization;
    try {
      config_from_hf(json, "config.json", true);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  const auto says = [&](const std::string& key, const Json& value, const std::string& words) {
    auto quantization = Form().quantization;
    quantization[key] = value;
    EXPECT_NE(refusal(quantization).find("config.json: quantization_config." + key + ": " + words),
              std::string::npos)
        << refusal(quantization);
  };
  EXPECT_EQ(refusal(Form().quantization), "");
  says("quant_method", "hqq",
       "'hqq' is not read here; known: fp8, compressed-tensors, fbgemm_fp8, bitsandbytes");
  says("fmt", "e5m2", "found 'e5m2', expected 'e4m3'");
  says("weight_block_size", {128}, "expected two positive whole numbers");
  says("zero_points", true, "is not known here, and might change what the weights are");
  says("activation_scheme", "per_block", "found 'per_block'");
}

TEST(Fp8, ScalesOfAnotherShapeOrNoneAreNamed) {
  const Pair pair;
  write(pair, "deepseek_v3", {});
  const auto load = [&](const Json& quantization) -> std::string {
    const auto file = std::filesystem::path(pair.fp8()) / "config.json";
    auto config = read_json(file);
    config["quantization_config"] = quantization;
    write_text(file, config.dump());
    try {
      load_weights({.path = pair.fp8()});
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  auto other = Form().quantization;
  other["weight_block_size"] = {16, 8};
  EXPECT_NE(load(other).find("has shape [2, 2]; a matrix [24, 32] in blocks of [16, 8] has [2, 4] scales"),
            std::string::npos)
      << load(other);
  Form unnamed;
  unnamed.suffix = "_scales";
  const Pair without;
  write(without, "deepseek_v3", unnamed);
  try {
    load_weights({.path = without.fp8()});
    FAIL() << "nothing was refused";
  } catch (const FormatError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("is F8_E4M3, and no tensor model.layers.0.self_attn.q_a_proj.weight_"
                        "scale_inv has its scales"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace retort
