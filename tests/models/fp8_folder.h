// Folders of F8_E4M3 with scales, made of a golden model.
#pragma once
#include <cmath>

#include "base/files.h"
#include "base/json.h"
#include "data/temporary_folder.h"  // tests/data
#include "formats/weight_file.h"
#include "ops/tensors.h"  // tests/ops
#include "quant/scaled_f8.h"
#include "where.h"  // tests

namespace retort {

inline uint8_t nearest_code(float value) {
  uint8_t best = 0;
  for (int code = 0; code < 127; ++code)
    if (std::abs(kF8E4m3Magnitudes[static_cast<size_t>(code)] - std::abs(value)) <
        std::abs(kF8E4m3Magnitudes[best] - std::abs(value)))
      best = static_cast<uint8_t>(code);
  return value < 0 ? best | 128 : best;
}

struct EncodedF8 {
  std::vector<uint8_t> codes;
  std::vector<float> scales, decoded;
  std::vector<int64_t> grid;
};

// `block` 0: one scale; -1: one a row.
inline EncodedF8 encode_f8(const Tensor& matrix, int64_t block, bool power_of_two) {
  const auto rows = matrix.size(0), columns = matrix.size(1);
  const auto block_rows = block > 0    ? block
                          : block == 0 ? rows
                                       : 1,
             block_columns = block > 0 ? block : columns;
  const auto parts = [](int64_t count, int64_t size) { return (count + size - 1) / size; };
  EncodedF8 written;
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

struct Fp8Pair {
  TemporaryFolder folder;
  std::string fp8() const { return folder / "fp8"; }
  std::string plain() const { return folder / "plain"; }
};

struct Fp8Form {
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
inline void write_fp8_pair(const Fp8Pair& pair, const std::string& family, const Fp8Form& form) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden/models" / family;
  const auto original = open_safetensors_folder(golden);
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
    const auto written = encode_f8(values, form.block, form.scale_type == WeightType::f8_e8m0);
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
  auto config = read_json(golden / "config.json");
  write_safetensors_folder(pair.plain(), plain, 1 << 30);
  write_text(std::filesystem::path(pair.plain()) / "config.json", config.dump());
  write_safetensors_folder(pair.fp8(), fp8, 9000);  // weights and scales in different shards
  config["quantization_config"] = form.quantization;
  write_text(std::filesystem::path(pair.fp8()) / "config.json", config.dump());
}

// mistral4's golden, whose experts are in two tensors a layer, with those in F8_E4M3 in many small shards,
// and the same model of decoded values in fp32. `scales`: one for each block of 16 rows and columns
// ("blocks"; "powers", of two), for each of "rows", for each of "parts" (gate, up, down) or of "experts", or
// "one" for all of a tensor. Experts are `wider` times as wide as the golden's, whose numbers are repeated.
inline void write_fp8_stacks(const Fp8Pair& pair, const std::string& scales, int64_t wider = 1) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden/models/mistral4";
  const auto original = open_safetensors_folder(golden);
  const bool blocks = scales == "blocks" || scales == "powers";
  const auto widened = [&](const std::string& name, const Tensor& values) -> Tensor {
    if (name.find("experts.") == std::string::npos) return values;
    if (name.find("down_proj") != std::string::npos)
      return values.dim() == 3 ? values.repeat({1, 1, wider}) : values.repeat({1, wider});
    if (values.dim() == 2) return values.repeat({wider, 1});  // of shared experts
    const auto both = values.view({values.size(0), 2, -1, values.size(2)}).repeat({1, 1, wider, 1});
    return both.flatten(1, 2).contiguous();
  };
  std::vector<TensorSource> fp8, plain;
  const auto add = [&](std::vector<TensorSource>& to, const std::string& name, WeightType type,
                       const std::vector<int64_t>& shape, const auto& values) {
    const std::vector<std::decay_t<decltype(values[0])>> copy(values.begin(), values.end());
    to.push_back({name, type, shape, [copy](const auto& sink) { sink(std::as_bytes(std::span(copy))); }});
  };
  for (const auto& tensor : original.tensors) {
    auto values = at::empty(tensor.shape, at::TensorOptions(at::kFloat));
    dequantize_rows(tensor.type, tensor.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
    const auto& name = tensor.name;
    values = widened(name, values);
    const auto shape = values.sizes().vec();
    const bool gate_up = name.ends_with("experts.gate_up_proj");
    if (!gate_up && !name.ends_with("experts.down_proj")) {
      const std::span list(values.const_data_ptr<float>(), static_cast<size_t>(values.numel()));
      for (auto* to : {&fp8, &plain}) add(*to, name, WeightType::f32, shape, list);
      continue;
    }
    const auto experts = shape[0], rows = shape[1], columns = shape[2];
    const auto halves = scales == "parts" && gate_up ? 2 : 1;  // one scale for gate and one for up
    const auto count = scales == "one" ? 1 : experts * halves;
    const int64_t block = blocks ? 16 : scales == "rows" ? -1 : 0;
    std::vector<uint8_t> codes;
    std::vector<float> decoded, all;
    for (int64_t i = 0; i < count; ++i) {
      const auto part = values.view({count, experts * rows / count, columns})[i].contiguous();
      const auto written = encode_f8(part, block, scales == "powers");
      codes.insert(codes.end(), written.codes.begin(), written.codes.end());
      decoded.insert(decoded.end(), written.decoded.begin(), written.decoded.end());
      all.insert(all.end(), written.scales.begin(), written.scales.end());
    }
    add(plain, name, WeightType::f32, shape, decoded);
    add(fp8, name, WeightType::f8_e4m3, shape, codes);
    const auto grid = blocks ? std::vector<int64_t>{experts, (rows + 15) / 16, (columns + 15) / 16}
                      : scales == "rows" ? std::vector<int64_t>{experts, rows, 1}
                      : scales == "one"  ? std::vector<int64_t>{1}
                      : halves == 2      ? std::vector<int64_t>{experts, 2}
                                         : std::vector<int64_t>{experts, 1, 1};
    add(fp8, name + "_scale_inv", WeightType::f32, grid, all);
  }
  auto config = read_json(golden / "config.json");
  config["moe_intermediate_size"] = wider * config["moe_intermediate_size"].get<int64_t>();
  write_safetensors_folder(pair.plain(), plain, 1 << 30);
  write_text(std::filesystem::path(pair.plain()) / "config.json", config.dump());
  write_safetensors_folder(pair.fp8(), fp8, 9000);
  auto& quantization = config["quantization_config"];
  quantization = {{"quant_method", "fp8"}, {"fmt", "e4m3"}, {"activation_scheme", "dynamic"}};
  if (blocks) quantization["weight_block_size"] = {16, 16};
  if (scales == "powers") quantization["scale_fmt"] = "ue8m0";
  write_text(std::filesystem::path(pair.fp8()) / "config.json", config.dump());
}

}  // namespace retort
