// Folders of bitsandbytes, GPTQ, AWQ, MXFP4 and NVFP4: the numbers that their libraries give
// (tools/golden/four_bit.py, e2m1.py), bit for bit, and the logits of transformers over them.
#include "models/four_bit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data
#include "formats/golden_file.h"    // tests/formats
#include "models/model.h"
#include "models/read_config.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

using Method = FourBitConfig::Method;

const auto kGolden = std::filesystem::path(source_dir()) / "tests/golden/models/four_bit";

Tensor stored_tensor(const WeightFile& file, const std::string& name) {
  const auto* found = file.find(name);
  if (!found) throw std::logic_error(name);
  auto values = at::empty(found->shape, at::TensorOptions(at::kFloat));
  dequantize_rows(found->type, found->data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
  return values;
}

struct Case {
  std::string name;
  FourBitConfig config;
};

const std::vector<Case> kCases = {
    {"nf4_64", {}},
    {"nf4_64_nested", {}},
    {"nf4_64_bf16", {}},
    {"nf4_64_f16", {}},
    {"fp4_64_nested", {}},
    {"nf4_128", {}},
    {"fp4_1024", {}},
    {"nf4_4096", {}},
    {"gptq_32", {Method::gptq, 32, true, false}},
    {"gptq_64_v2", {Method::gptq, 64, false, false}},
    {"gptq_order", {Method::gptq, 32, true, true}},
    {"gptq_row", {Method::gptq, 0, false, false}},
    {"gptq_bf16", {Method::gptq, 128, true, false}},
    {"gptq_positive", {Method::gptq, 32, true, false}},
    {"awq_32", {Method::awq, 32}},
    {"awq_128", {Method::awq, 128}},
    {"awq_row", {Method::awq, 0}},
};

TEST(FourBit, NumbersAreThoseOfTheLibrariesToTheBit) {
  const auto file = open_safetensors(kGolden / "matrices.safetensors");
  for (const auto& [name, config] : kCases) {
    SCOPED_TRACE(name);
    const bool bitsandbytes = config.method == Method::bitsandbytes;
    const auto base = bitsandbytes ? name + ".weight" : name;
    const auto matrix = find_four_bit(file, config, name + ".weight");
    ASSERT_TRUE(matrix.has_value());
    const auto weight = read_four_bit(*matrix);
    EXPECT_EQ(weight.type, WeightType::packed4);
    EXPECT_EQ(weight.stored_bytes() -
                  (weight.code_scales->group_of.defined() ? static_cast<uint64_t>(4 * weight.columns) : 0),
              held_bytes(*matrix));
    const auto values = widen(weight, at::kFloat);
    const auto* expected = file.find(base + ".expected");
    // bitsandbytes gives its numbers in the type that it had them in before.
    const auto type = expected->type == WeightType::bf16  ? at::kBFloat16
                      : expected->type == WeightType::f16 ? at::kHalf
                                                          : at::kFloat;
    EXPECT_TRUE(at::equal(values.to(type).to(at::kFloat), stored_tensor(file, base + ".expected")));
    if (bitsandbytes) continue;
    const auto* library = file.find(base + ".library");
    const auto theirs = library->type == WeightType::bf16 ? at::kBFloat16 : at::kHalf;
    EXPECT_TRUE(at::equal(values.to(theirs).to(at::kFloat), stored_tensor(file, base + ".library")));
    EXPECT_TRUE(at::equal(widen(weight, at::kBFloat16), values.to(at::kBFloat16)));
  }
}

std::string word(uint32_t value) { return {reinterpret_cast<const char*>(&value), 4}; }

TensorSource source(const std::string& name, WeightType type, std::vector<int64_t> shape, std::string bytes) {
  return {name, type, std::move(shape), [bytes](const auto& sink) {
            sink({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
          }};
}

TEST(FourBit, NumbersOfE2m1AreThoseOfTheLibrariesToTheBit) {
  const auto file = open_safetensors(kGolden / "e2m1.safetensors");
  for (const auto& config : {FourBitConfig{Method::mxfp4, 32}, {Method::nvfp4, 16}, {Method::modelopt, 16}}) {
    const std::string kind = config.method == Method::mxfp4   ? "mxfp4"
                             : config.method == Method::nvfp4 ? "nvfp4"
                                                              : "modelopt";
    for (const auto& name : {kind, kind + "_wide"}) {
      SCOPED_TRACE(name);
      const auto matrix = find_four_bit(file, config, name + ".weight");
      ASSERT_TRUE(matrix.has_value());
      const auto weight = read_four_bit(*matrix);
      EXPECT_EQ(weight.blocks.data(), matrix->codes->data.data());  // a view of the file
      EXPECT_EQ(weight.stored_bytes(), held_bytes(*matrix));
      const auto values = widen(weight, at::kFloat), expected = stored_tensor(file, name + ".expected");
      EXPECT_TRUE(at::equal(values.view(at::kInt), expected.view(at::kInt)));  // -0 is not 0
      EXPECT_TRUE(at::equal(widen(weight, at::kBFloat16), values.to(at::kBFloat16)));
    }
  }
}

// One block of 32: every code, its value in the column of its number; scales 2^-2, and 0.5 / 4 and 1.5 / 4.
TEST(FourBit, E2m1ByHand) {
  const TemporaryFolder folder;
  std::string codes;
  for (uint8_t i = 0; i < 16; ++i) codes += static_cast<char>(i | (15 - i) << 4);
  write_safetensors(folder / "e2m1.safetensors",
                    {source("m.weight_packed", WeightType::u8, {1, 16}, codes),
                     source("m.weight_scale", WeightType::u8, {1, 1}, "\x7D"),
                     source("n.weight_packed", WeightType::u8, {1, 16}, codes),
                     source("n.weight_scale", WeightType::f8_e4m3, {1, 2}, "\x30\x3C"),
                     source("n.weight_global_scale", WeightType::f32, {1}, word(0x40800000))},
                    {});
  const auto file = open_safetensors(folder / "e2m1.safetensors");
  const auto mx = widen(read_four_bit(*find_four_bit(file, {Method::mxfp4, 32}, "m.weight")), at::kFloat),
             nv = widen(read_four_bit(*find_four_bit(file, {Method::nvfp4, 16}, "n.weight")), at::kFloat);
  constexpr float kMagnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  for (int i = 0; i < 32; ++i) {
    const int code = i % 2 == 0 ? i / 2 : 15 - i / 2;
    const float value = (code & 8 ? -1.0f : 1.0f) * kMagnitudes[code & 7];
    EXPECT_EQ(mx[0][i].item<float>(), value * 0.25f) << i;
    EXPECT_EQ(nv[0][i].item<float>(), value * (i < 16 ? 0.125f : 0.375f)) << i;
  }
}

// One group of eight inputs and eight outputs, whose codes are input + output; zero points 0, 1, ... 7.
TEST(FourBit, WordsByHand) {
  const TemporaryFolder folder;
  std::string gptq, awq, scales;
  for (uint32_t i = 0; i < 8; ++i) {
    uint32_t down = 0, across = 0;
    constexpr uint32_t kPlace[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    for (uint32_t j = 0; j < 8; ++j) down |= (i + j) << 4 * j, across |= (i + j) << 4 * kPlace[j];
    gptq += word(down), awq += word(across);
    scales += word(0x3F800000);  // 1
  }
  // Nibbles 0 to 7 less one each, as whole words: 0x76543210 - 0x11111111.
  write_safetensors(
      folder / "words.safetensors",
      {source("g.qweight", WeightType::i32, {1, 8}, gptq),
       source("g.qzeros", WeightType::i32, {1, 1}, word(0x654320FF)),
       source("g.scales", WeightType::f32, {1, 8}, scales), source("a.qweight", WeightType::i32, {8, 1}, awq),
       source("a.qzeros", WeightType::i32, {1, 1}, word(0x75316420)),
       source("a.scales", WeightType::f32, {1, 8}, scales)},
      {});
  const auto file = open_safetensors(folder / "words.safetensors");
  for (const auto& [name, config] :
       {std::pair("g.weight", FourBitConfig{Method::gptq, 0, true}), {"a.weight", {Method::awq, 0}}}) {
    const auto values = widen(read_four_bit(*find_four_bit(file, config, name)), at::kFloat);
    for (int64_t o = 0; o < 8; ++o)
      for (int64_t i = 0; i < 8; ++i)
        EXPECT_EQ(values[o][i].item<float>(), static_cast<float>(i)) << name << o << " " << i;
  }
}

Tensor logits_of(const ModelSpec& spec, const std::vector<int32_t>& ids, at::ScalarType compute) {
  const auto loaded = load_weights(spec);
  Forest forest;
  forest.add_segment(ids);
  const at::NoGradGuard no_graph;
  const auto pass = make_pass(forest, compute);
  std::vector<int32_t> rows(ids.size());
  std::iota(rows.begin(), rows.end(), 0);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

class FourBitFolder : public testing::TestWithParam<const char*> {
 protected:
  std::string path = (kGolden / GetParam()).string();
  WeightFile reference = open_safetensors(kGolden / GetParam() / "golden.safetensors");
  std::vector<int32_t> ids() const {
    const auto values = stored_tensor(reference, "ids").to(at::kInt);
    return {values.const_data_ptr<int32_t>(), values.const_data_ptr<int32_t>() + values.numel()};
  }
};

TEST_P(FourBitFolder, LogitsAreThoseOfTransformers) {
  const auto expected = stored_tensor(reference, "logits");
  const auto found = logits_of({.path = path}, ids(), at::kFloat);
  EXPECT_LT((found - expected).abs().max().item<float>(), 1e-4f * expected.abs().max().item<float>());
}

TEST_P(FourBitFolder, TheSameLayerByLayerAndWidened) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const auto kept = logits_of({.path = path}, ids(), type);
    EXPECT_TRUE(
        at::equal(logits_of({.path = path, .schedule = "layers", .memory = "1MiB"}, ids(), type), kept));
    const auto* wide = type == at::kFloat ? "f32" : "bf16";
    EXPECT_TRUE(at::equal(logits_of({.path = path, .weights = wide}, ids(), type), kept)) << wide;
  }
}

TEST_P(FourBitFolder, MatricesStayAtFourBits) {
  const auto loaded = load_weights({.path = path});
  for (const auto* layer : loaded.model->linears()) {
    EXPECT_EQ(layer->weight.type, WeightType::packed4) << layer->name;
    EXPECT_FALSE(layer->bias.defined());
  }
  EXPECT_TRUE(loaded.model->head.linear.weight.dense.defined());
}

INSTANTIATE_TEST_SUITE_P(, FourBitFolder,
                         testing::Values("bitsandbytes", "gptq", "awq", "mxfp4", "nvfp4", "modelopt"));

std::string refusal_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const FormatError& error) { return error.what(); }
  return "";
}

TEST(FourBit, KeysOfTheConfigAreHonouredOrRefusedByName) {
  const auto read = [](const std::string& method, const Json& changes) {
    auto json = read_json(kGolden / method / "config.json");
    json["quantization_config"].update(changes);
    return config_from_hf(json, "config.json", true);
  };
  const auto says = [&](const std::string& method, const std::string& key, const Json& value,
                        const std::string& words) {
    const auto line = refusal_of([&] { read(method, {{key, value}}); });
    EXPECT_NE(line.find("config.json: quantization_config." + key + ": " + words), std::string::npos)
        << method << " " << key << ": " << line;
  };
  says("bitsandbytes", "load_in_8bit", true, "is true: bitsandbytes' 8-bit weights");
  says("bitsandbytes", "load_in_4bit", false, "expected true");
  says("bitsandbytes", "bnb_4bit_quant_type", "int4", "found 'int4', expected 'fp4', 'nf4'");
  says("bitsandbytes", "bnb_4bit_quant_storage", "int64", "found 'int64'");
  says("bitsandbytes", "outliers", 3, "is not known here");
  for (const auto* method : {"gptq", "awq"}) {
    says(method, "bits", 8, "expected 4");
    says(method, "group_size", 0, "expected -1 or an even whole number");
    says(method, "group_size", 1.5, "expected -1 or an even whole number");
    says(method, "pack_dtype", "int16", "found 'int16', expected 'int32'");
    says(method, "dynamic", {{"+:.*down.*", {{"bits", 8}}}}, "'+:.*down.*' gives some layers other settings");
    says(method, "rotation", "hadamard", "is not known here");
  }
  says("gptq", "checkpoint_format", "marlin", "found 'marlin', expected 'gptq', 'gptq_v2'");
  says("gptq", "format", "gptq_v2", "is 'gptq_v2', and checkpoint_format is 'gptq'");
  says("gptq", "is_marlin_format", true, "is true");
  says("awq", "version", "gemv", "found 'gemv', expected 'gemm'");
  says("awq", "backend", "llm-awq", "'llm-awq' packs weights in an order");
  says("awq", "zero_point", false, "is false");
  says("awq", "desc_act", true, "expected false");

  for (const auto* method : {"mxfp4", "nvfp4", "modelopt"})
    says(method, "rotation", "hadamard", "is not known here");
  for (const auto* method : {"mxfp4", "nvfp4"}) {
    says(method, "quantization_status", "frozen", "found 'frozen', expected 'compressed'");
    says(method, "transform_config", {{"hadamard", true}}, "is not known here");
    says(method, "format", "int-quantized",
         "found 'int-quantized', expected 'float-quantized', 'mxfp4-pack-");
    const auto weights = [&](const std::string& key, const Json& value) {
      auto groups = read_json(kGolden / method / "config.json")["quantization_config"]["config_groups"];
      groups["group_0"]["weights"][key] = value;
      return refusal_of([&] { read(method, {{"config_groups", groups}}); });
    };
    const auto within = [&](const std::string& key, const Json& value, const std::string& words) {
      const auto line = weights(key, value);
      EXPECT_NE(line.find("quantization_config.config_groups.group_0.weights." + key + ": " + words),
                std::string::npos)
          << method << ": " << line;
    };
    within("num_bits", 8, "expected 4");
    within("type", "int", "found 'int', expected 'float'");
    within("group_size", 64, method == std::string("mxfp4") ? "expected 32" : "expected 16");
    within("symmetric", false, "expected true");
    within("strategy", "channel", "found 'channel'");
    within("actorder", "group", "is not known here");
    EXPECT_EQ(weights("observer", "mse"), "");
  }
  says("modelopt", "quant_algo", "W4A16_AWQ", "found 'W4A16_AWQ', expected 'NVFP4', 'W4A16_NVFP4'");
  says("modelopt", "quant_algo", "MIXED_PRECISION", "found 'MIXED_PRECISION'");
  says("modelopt", "quant_method", "mxfp4", "'mxfp4' is the layout of gpt-oss");
  EXPECT_EQ(read("modelopt", {{"kv_cache_scheme", {{"num_bits", 8}}}}).four_bit->method, Method::modelopt);

  EXPECT_FALSE(read("gptq", {{"checkpoint_format", "gptq_v2"}}).four_bit->zeros_less_one);
  EXPECT_TRUE(read("gptq", {{"checkpoint_format", nullptr}}).four_bit->zeros_less_one);
  EXPECT_EQ(read("gptq", {{"group_size", -1}}).four_bit->group_size, 0);
  EXPECT_EQ(read("awq", {{"version", "GEMM"}, {"group_size", 64}}).four_bit->group_size, 64);
  EXPECT_TRUE(read("awq", {{"dynamic", {{"-:.*gate.*", Json::object()}}}}).four_bit.has_value());
  EXPECT_TRUE(read("bitsandbytes", {{"llm_int8_skip_modules", {"lm_head", "vision_tower"}}}).four_bit);
}

// A golden folder whose tensors `change` may replace, drop (an empty name) or leave.
void rewrite(const std::string& method, const std::filesystem::path& folder,
             const std::function<void(std::string& name, TensorSource& tensor, std::string& bytes)>& change) {
  const auto file = open_safetensors(kGolden / method / "model.safetensors");
  std::vector<TensorSource> tensors;
  for (const auto& tensor : file.tensors) {
    std::string bytes(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    TensorSource copy{tensor.name, tensor.type, tensor.shape, {}};
    auto name = tensor.name;
    change(name, copy, bytes);
    if (!name.empty()) tensors.push_back(source(name, copy.type, copy.shape, bytes));
  }
  std::filesystem::create_directories(folder);
  write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  std::filesystem::copy_file(kGolden / method / "config.json", folder / "config.json",
                             std::filesystem::copy_options::overwrite_existing);
}

TEST(FourBit, HostileFoldersAreOneLine) {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& method, const std::string& ending, const auto& act,
                           const std::string& words) {
    rewrite(method, folder / "model", [&](std::string& name, TensorSource& tensor, std::string& bytes) {
      if (name.ends_with("layers.1.mlp.up_proj." + ending)) act(name, tensor, bytes);
    });
    for (const auto* schedule : {"tokens", "layers"}) {
      const auto line = refusal_of([&] {
        logits_of({.path = folder / "model", .schedule = schedule, .memory = "1MiB"}, {1, 2}, at::kFloat);
      });
      EXPECT_NE(line.find(words), std::string::npos) << method << " " << ending << ": " << line;
      EXPECT_NE(line.find("model"), std::string::npos);
      EXPECT_EQ(line.find('\n'), std::string::npos);
    }
  };
  const auto drop = [](std::string& name, TensorSource&, std::string&) { name.clear(); };
  const auto json = [](const char* key, const Json& value) {
    return [=](std::string&, TensorSource& tensor, std::string& bytes) {
      auto state = Json::parse(bytes);
      state[key] = value;
      bytes = state.dump(), tensor.shape = {static_cast<int64_t>(bytes.size())};
    };
  };
  const auto shortened = [](std::string&, TensorSource& tensor, std::string& bytes) {
    const auto row = bytes.size() / static_cast<size_t>(tensor.shape[0]);
    tensor.shape[0] -= 1, bytes.resize(bytes.size() - row);
  };
  const auto infinite = [](std::string&, TensorSource& tensor, std::string& bytes) {
    bytes.replace(bytes.size() - 4, 4, tensor.type == WeightType::f32 ? word(0x7FC00000) : word(0x7E007E00));
  };
  const std::string state = "weight.quant_state.bitsandbytes__nf4";
  refused("bitsandbytes", state, shortened, "weight.quant_state.bitsandbytes__nf4: byte");
  refused("bitsandbytes", state, drop, "says what it belongs to");
  refused("bitsandbytes", state, json("blocksize", 0), "blocksize: expected a whole number from 1");
  refused("bitsandbytes", state, json("blocksize", 63), "blocksize: expected an even number");
  refused("bitsandbytes", state, json("blocksize", 128), "has shape [32]; the matrix needs [16]");
  refused("bitsandbytes", state, json("shape", {64, 34}), "of 4-bit codes has 1088");
  refused("bitsandbytes", state, json("shape", {-1, 32}), "shape: expected a whole number");
  refused("bitsandbytes", state, json("shape", 7), "shape: expected that of a matrix");
  refused("bitsandbytes", state, json("quant_type", "fp4"), "quant_type: expected that of the tensor's name");
  refused("bitsandbytes", state, json("nested_offset", "much"), "nested_offset: expected a number");
  refused("bitsandbytes", state, json("nested_blocksize", nullptr), "nested_blocksize: expected a whole");
  refused("bitsandbytes", state, json("twist", 1), "twist is not known here");
  refused("bitsandbytes", "weight.absmax", drop, "missing from the file");
  refused("bitsandbytes", "weight.absmax", shortened, "has shape [31]; the matrix needs [32]");
  refused("bitsandbytes", "weight.nested_absmax", infinite, "is not finite");
  refused("bitsandbytes", "weight.nested_quant_map", infinite, "is not finite");
  refused("bitsandbytes", "weight.quant_map", infinite, "where bitsandbytes has");
  refused("bitsandbytes", "weight", shortened, "of 4-bit codes has 1024");
  for (const std::string method : {"gptq", "awq"}) {
    refused(method, "qweight", drop, "has the codes; is the download complete?");
    refused(method, "qweight", shortened,
            method == "gptq" ? "has shape [32]; the matrix needs [24]" : "odd number");
    refused(method, "qzeros", drop, "missing from the file");
    refused(method, "qzeros", shortened, "has shape [1, 8]; the matrix needs [2, 8]");
    refused(method, "scales", shortened, "groups of 16 has [2, 64]");
    refused(method, "scales", infinite, "is not finite");
  }
  const auto byte = [](int value) {
    return [=](std::string&, TensorSource&, std::string& bytes) { bytes[1] = static_cast<char>(value); };
  };
  refused("mxfp4", "weight_packed", drop, "up_proj.weight_packed has its codes as U8");
  refused("mxfp4", "weight_packed", shortened, "has shape [64, 1]; the matrix needs [63, 1]");
  refused("mxfp4", "weight_scale", drop, "missing from the file");
  refused("mxfp4", "weight_scale", shortened, "has shape [63, 1]; the matrix needs [64, 1]");
  refused("mxfp4", "weight_scale", byte(255), "scale 1 makes numbers that are not finite");
  refused("mxfp4", "weight_scale", byte(254), "scale 1 makes numbers that are not finite");
  refused(
      "mxfp4", "weight_scale",
      [](std::string& name, TensorSource&, std::string&) { name.replace(name.size() - 5, 5, "zero_point"); },
      "is not known here, and changes what the weights are");
  for (const std::string method : {"nvfp4", "modelopt"}) {
    const std::string codes = method == "nvfp4" ? "weight_packed" : "weight",
                      over_all = method == "nvfp4" ? "weight_global_scale" : "weight_scale_2";
    refused(method, codes, drop, "has its codes as U8; is the download complete?");
    refused(method, codes, shortened, "has shape [64, 2]; the matrix needs [63, 2]");
    refused(method, "weight_scale", byte(0x7F), "scale 1 makes numbers that are not finite");
    refused(method, over_all, drop, "missing from the file");
    for (const uint32_t bad : {0x7FC00000U, 0x80000000U, 0xBF800000U})
      refused(
          method, over_all, [&](std::string&, TensorSource&, std::string& bytes) { bytes = word(bad); },
          "expected a positive number");
  }
  refused("gptq", "g_idx", drop, "missing from the file");
  refused("gptq", "g_idx", shortened, "the matrix needs [32]");
  for (const uint32_t group : {2U, 0xFFFFFFFFU})
    refused(
        "gptq", "g_idx",
        [&](std::string&, TensorSource&, std::string& bytes) { bytes.replace(12, 4, word(group)); },
        group == 2 ? "input 3 is in group 2, of 2" : "input 3 is in group -1, of 2");
}

// However a writer calls them: no program here writes experts so.
TEST(FourBit, CodesOfAllExpertsInOneTensorAreRefusedByName) {
  const TemporaryFolder folder;
  const auto golden = kGolden.parent_path() / "mistral4";
  const auto original = open_safetensors_folder(golden);
  auto config = read_json(golden / "config.json");
  for (const std::string kind : {"mxfp4", "nvfp4", "modelopt"}) {
    std::vector<TensorSource> tensors;
    const std::vector<std::byte> codes(8 * 32 * 16);
    for (const auto& tensor : original.tensors) {
      if (!tensor.name.ends_with("experts.gate_up_proj"))
        tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
      else
        tensors.push_back(tensor_source(tensor.name + (kind == "modelopt" ? "" : "_packed"), WeightType::u8,
                                        {8, 32, 16}, codes));
    }
    const std::filesystem::path path = folder / kind;
    write_safetensors_folder(path, tensors, 1 << 30);
    config["quantization_config"] = read_json(kGolden / kind / "config.json")["quantization_config"];
    write_text(path / "config.json", config.dump());
    const auto line = refusal_of([&] { load_weights({.path = path.string()}); });
    EXPECT_NE(line.find("experts.gate_up_proj"), std::string::npos) << line;
    EXPECT_NE(line.find("has all experts of a layer as 4-bit codes"), std::string::npos) << line;
  }
}

// AutoGPTQ wrote zeros as the bias of layers that have none; transformers passes over them.
TEST(FourBit, ABiasOfZerosThatNobodyAskedForIsPassedOver) {
  const TemporaryFolder folder;
  const auto with_bias = [&](uint32_t value) {
    rewrite("gptq", folder / "model", [&](std::string& name, TensorSource& tensor, std::string& bytes) {
      if (!name.ends_with("layers.0.mlp.down_proj.g_idx")) return;
      name.replace(name.size() - 5, 5, "bias");
      bytes.clear();
      for (int i = 0; i < 32; ++i) bytes += word(value);
      tensor.type = WeightType::f32, tensor.shape = {32};
    });
    auto config = read_json(folder / "model/config.json");
    config["quantization_config"]["desc_act"] = false;
    write_text(folder / "model/config.json", config.dump());
    return folder / "model";
  };
  EXPECT_FALSE(load_weights({.path = with_bias(0)}).model->linears().front()->bias.defined());
  const auto line = refusal_of([&] { load_weights({.path = with_bias(0x3F800000)}); });
  EXPECT_NE(line.find("down_proj.bias: holds numbers"), std::string::npos) << line;
}

}  // namespace
}  // namespace retort
