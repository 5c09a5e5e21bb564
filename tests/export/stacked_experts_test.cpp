// Experts that a folder has in two tensors a layer (Mistral Small 4): adapters as PEFT puts them on whole
// parameters (target_parameters), and merged matrices in the base's own tensors.
#include <gtest/gtest.h>

#include <map>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "adapters/merge.h"
#include "export/artefacts.h"
#include "export/rehearse.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/adapter_folder.h"
#include "formats/golden_file.h"  // tests/formats
#include "models/fp8_folder.h"    // tests/models
#include "models/tensor_names.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

namespace fs = std::filesystem;

AdapterSpec spec_of(std::vector<std::string> targets, const std::string& kind = "lora") {
  AdapterSpec spec;
  spec.kind = kind;
  spec.rank = 3, spec.alpha = 6, spec.dropout = 0.1;
  spec.targets = std::move(targets);
  return spec;
}

LoadedModel adapted(const std::string& path, const AdapterSpec& spec) {
  auto loaded = load_model({.path = path, .compute = "f32"});
  const at::NoGradGuard no_graph;
  for (auto& [name, tensor, place] : attach(*loaded.model, spec, 1))
    if (name.find("lora_B") != std::string::npos)
      tensor->copy_(at::arange(tensor->numel(), at::kFloat).sin().view_as(*tensor).mul_(0.1));
  return loaded;
}

Tensor update_of(const Linear& layer) {
  return merged_rows(layer, 0, layer.weight.rows) - widen(layer.weight, at::kFloat);
}

// PEFT's own sum for parameters [experts, out, in] (ParamWrapper.get_delta_weight): "o r e, e r i -> e o i".
Tensor update_by_peft(const Tensor& a, const Tensor& b, int64_t experts, double scaling) {
  const auto by_expert = a.view({experts, -1, a.size(1)});
  const auto by_rank = b.view({b.size(0), -1, experts});
  return at::einsum("ore,eri->eoi", {by_rank, by_expert}) * scaling;
}

// A tensor of an adapter that PEFT put on a parameter of layer 1's experts.
TensorSource of_parameter(const std::string& name, const Tensor& values) {
  return tensor_source(
      peft_name("model.layers.1.mlp.experts", name), WeightType::f32, values.sizes().vec(),
      std::as_bytes(std::span(values.const_data_ptr<float>(), static_cast<size_t>(values.numel()))));
}

// What an expert's matrix is of its layer's tensor.
Tensor part_of(const Tensor& stack, const TensorPlace& place) {
  const auto one = stack[place.expert];
  if (place.role == Role::down) return one;
  return one.chunk(2)[place.role == Role::up ? 1u : 0u];
}

// A stack of experts as the rows of one matrix, in fp32.
Tensor rows_of(const WeightFile& file, const std::string& name) {
  const auto& view = *file.find(name);
  auto values =
      at::empty({view.elements() / view.shape.back(), view.shape.back()}, at::TensorOptions(at::kFloat));
  dequantize_rows(view.type, view.data.data(), values.mutable_data_ptr<float>(), 1, values.numel());
  return values;
}

// mistral4's golden with experts of 160 numbers in F8_E4M3: a tensor of a layer's gate and up is more than
// what is in memory at a time.
class StackedF8 : public testing::Test {
 protected:
  const Fp8Pair pair;
  const std::string base = pair.fp8(), out = pair.folder / "out";

  void make(const std::string& scales) {
    write_fp8_stacks(pair, scales, 10);
    write_text(fs::path(base) / "tokenizer.json", tiny_tokenizer(96).dump());
    write_text(fs::path(base) / "tokenizer_config.json",
               Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}}).dump());
  }
};

class StackedF8Forms : public StackedF8, public testing::WithParamInterface<const char*> {};

// Rows and columns of the blocks of a stack [8, rows, columns] seen as one matrix.
std::pair<int64_t, int64_t> block_of(const std::string& scales, bool gate_up, int64_t rows, int64_t columns) {
  if (scales == "rows") return {1, columns};
  if (scales == "parts") return {gate_up ? rows / 2 : rows, columns};
  if (scales == "experts") return {rows, columns};
  if (scales == "one") return {8 * rows, columns};
  return {16, 16};
}

}  // namespace

TEST(StackedExperts, AdaptersAreThoseOfWholeParameters) {
  for (const auto* kind : {"lora", "rslora"}) {
    const TemporaryFolder folder;
    tiny_model(folder, "mistral4");  // writes it
    const auto spec = spec_of({"gate_proj", "up_proj", "down_proj", "o_proj"}, kind);
    auto loaded = adapted(folder / "tiny", spec);
    const auto& config = loaded.model->config;
    const fs::path out = folder / "adapter";
    write_peft_adapter(out, loaded, spec);

    const auto json = read_json(out / "adapter_config.json");
    EXPECT_EQ(json["lora_dropout"], 0);
    const auto parameters = json["target_parameters"].get<std::vector<std::string>>();
    for (const char* name :
         {"model.layers.0.mlp.experts.gate_up_proj", "model.layers.2.mlp.experts.down_proj"})
      EXPECT_NE(std::ranges::find(parameters, name), parameters.end()) << name;
    EXPECT_EQ(json["rank_pattern"]["experts.gate_up_proj"], 6);
    const auto file = open_safetensors(out / "adapter_model.safetensors");
    const auto read = parse_peft_config(read_text(out / "adapter_config.json"), "adapter_config.json");
    for (const auto* layer : std::as_const(*loaded.model).linears()) {
      if (layer->place.expert < 0) continue;
      ASSERT_TRUE(layer->adapter) << layer->name;
      const auto parameter = stack_name(config, layer->place);
      const auto module =
          parameter.substr(0, parameter.rfind('.')) + (layer->place.role == Role::down ? "" : ".base_layer");
      const auto whole = update_by_peft(tensor_of(file, peft_name(module, "lora_A.weight")),
                                        tensor_of(file, peft_name(module, "lora_B.weight")), config.experts,
                                        peft_scaling(read, parameter));
      EXPECT_LT(distance(part_of(whole, layer->place), update_of(*layer)), 1e-5) << layer->name;
    }

    auto again = load_model({.path = folder / "tiny", .compute = "f32"});
    EXPECT_TRUE(load_adapter(again, out).empty());
    const auto theirs = trainables(*again.model), ours = trainables(*loaded.model);
    ASSERT_EQ(theirs.size(), ours.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      EXPECT_EQ(theirs[i].name, ours[i].name);
      EXPECT_TRUE(at::equal(*theirs[i].tensor, *ours[i].tensor)) << ours[i].name;
    }
    for (const auto* layer : std::as_const(*again.model).linears())
      if (layer->adapter) { EXPECT_NEAR(layer->adapter->scaling, spec.scaling(), 1e-12) << layer->name; }

    auto from = spec;  // a training may go on from it
    from.from = out.string();
    from.targets = summary_of(open_adapter_folder(out)).targets;
    auto start = load_model({.path = folder / "tiny", .compute = "f32"});
    EXPECT_EQ(refusal_of([&] { require_start(start, from); }), "accepted");
  }
}

TEST(StackedExperts, ChosenOnesAloneAreWritten) {
  const TemporaryFolder folder;
  tiny_model(folder, "mistral4");
  const auto spec = spec_of({"experts.5.down_proj", "layers.1.mlp.experts.2.up_proj"});
  auto loaded = adapted(folder / "tiny", spec);
  const fs::path out = folder / "adapter";
  write_peft_adapter(out, loaded, spec);
  const auto file = open_safetensors(out / "adapter_model.safetensors");
  // Where both are adapted, gate_up_proj is the inner one.
  EXPECT_TRUE(file.find("base_model.model.model.layers.1.mlp.experts.base_layer.lora_A.weight"));
  EXPECT_TRUE(file.find("base_model.model.model.layers.1.mlp.experts.lora_A.weight"));
  EXPECT_TRUE(file.find("base_model.model.model.layers.0.mlp.experts.lora_A.weight"));
  EXPECT_FALSE(file.find("base_model.model.model.layers.0.mlp.experts.base_layer.lora_A.weight"));
  auto again = load_model({.path = folder / "tiny", .compute = "f32"});
  load_adapter(again, out);
  const auto theirs = std::as_const(*again.model).linears(), ours = std::as_const(*loaded.model).linears();
  int there = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    ASSERT_EQ(theirs[i]->adapter.has_value(), ours[i]->adapter.has_value()) << ours[i]->name;
    if (!ours[i]->adapter) continue;
    EXPECT_TRUE(at::equal(theirs[i]->adapter->a, ours[i]->adapter->a)) << ours[i]->name;
    EXPECT_TRUE(at::equal(theirs[i]->adapter->b, ours[i]->adapter->b)) << ours[i]->name;
    ++there;
  }
  EXPECT_EQ(there, 4);  // three layers and one more
}

// What PEFT trains on a whole parameter mixes gate and up; also of a model whose files have a matrix for each
// expert.
TEST(StackedExperts, AdaptersThatPeftTrainedOnWholeParametersAreRead) {
  for (const auto* family : {"mistral4", "qwen3_moe"}) {
    const TemporaryFolder folder;
    auto loaded = tiny_model(folder, family);
    const auto& config = loaded.model->config;
    const auto experts = config.experts, width = config.hidden, inner = config.expert_intermediate;
    const auto a = random({experts * 4, width}, 1), b = random({2 * inner, 4 * experts}, 2);
    PeftConfig peft;
    peft.r = 4, peft.lora_alpha = 2;
    peft.target_parameters = {"mlp.experts.gate_up_proj"};
    const fs::path out = folder / "adapter";
    write_peft_folder(out, peft, {of_parameter("lora_A.weight", a), of_parameter("lora_B.weight", b)});
    load_adapter(loaded, out);
    const auto whole = update_by_peft(a, b, experts, 0.5);
    int compared = 0;
    for (const auto* layer : std::as_const(*loaded.model).linears()) {
      const bool named =
          layer->place.layer == 1 && layer->place.expert >= 0 && layer->place.role != Role::down;
      ASSERT_EQ(layer->adapter.has_value(), named) << layer->name;
      if (!named) continue;
      EXPECT_LT(distance(part_of(whole, layer->place), update_of(*layer)), 1e-4) << layer->name;
      ++compared;
    }
    EXPECT_EQ(compared, 2 * experts);
    peft.target_parameters = {"mlp.experts.down_proj"};  // the shapes are none of its
    write_peft_folder(out, peft, {of_parameter("lora_A.weight", a), of_parameter("lora_B.weight", b)});
    auto other = load_model({.path = folder / "tiny"});
    EXPECT_NE(refusal_of([&] { load_adapter(other, out); }).find("this base needs"), std::string::npos);
  }
}

TEST(StackedExperts, AreWrittenInTheirPlaceInTheBasesTensors) {
  const TemporaryFolder folder;
  tiny_model(folder, "mistral4");
  auto plain = load_model({.path = folder / "tiny", .compute = "f32"});
  write_kept_folder(folder / "same", plain, 1);
  const auto before = open_safetensors_folder(folder / "tiny"),
             same = open_safetensors_folder(folder / "same");
  for (const auto& tensor : before.tensors)
    EXPECT_TRUE(std::ranges::equal(tensor.data, same.find(tensor.name)->data)) << tensor.name;

  auto loaded = adapted(folder / "tiny", spec_of({"experts.5.down_proj", "layers.1.mlp.experts.2.up_proj"}));
  write_kept_folder(folder / "out", loaded, 2);
  const auto after = load_model({.path = folder / "out", .compute = "f32"});
  const auto theirs = std::as_const(*after.model).linears(), ours = std::as_const(*loaded.model).linears();
  ASSERT_EQ(theirs.size(), ours.size());
  int changed = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const auto rows = ours[i]->weight.rows;
    EXPECT_TRUE(
        at::equal(theirs[i]->weight.dense.to(at::kFloat),
                  merged_rows(*ours[i], 0, rows).to(theirs[i]->weight.dense.scalar_type()).to(at::kFloat)))
        << ours[i]->name;
    changed += !at::equal(theirs[i]->weight.dense, ours[i]->weight.dense);
  }
  EXPECT_EQ(changed, 4);
}

namespace {

TEST_P(StackedF8Forms, BlocksOfTouchedExpertsAloneAreRoundedAnew) {
  const std::string kind = GetParam();
  make(kind);
  const auto spec = spec_of({"experts.5.down_proj", "layers.1.mlp.experts.2.up_proj"});
  auto loaded = adapted(base, spec);
  const auto artefact = write_kept_folder(out, loaded, 2);
  EXPECT_EQ(artefact.label, "F8_E4M3");
  EXPECT_GT(artefact.delta_error, 0);
  const auto before = open_safetensors_folder(base), after = open_safetensors_folder(out),
             decoded = open_safetensors_folder(pair.plain());
  ASSERT_EQ(before.tensors.size(), after.tensors.size());
  // By a stack's name: its numbers, those of touched experts in their place.
  std::map<std::string, Tensor> merged;
  for (const auto* layer : std::as_const(*loaded.model).linears()) {
    if (layer->place.expert < 0) continue;
    const auto name = stack_name(loaded.model->config, layer->place);
    auto& rows = merged.try_emplace(name, rows_of(decoded, name)).first->second;
    if (!layer->adapter) continue;
    part_of(rows.view({8, -1, rows.size(1)}), layer->place)
        .copy_(merged_rows(*layer, 0, layer->weight.rows).detach());
  }
  int64_t touched = 0;
  for (const auto& tensor : before.tensors) {
    const auto& written = *after.find(tensor.name);
    EXPECT_EQ(written.shape, tensor.shape);
    ASSERT_EQ(written.type, tensor.type);
    if (!merged.contains(tensor.name)) {
      if (!tensor.name.ends_with("_scale_inv")) {
        EXPECT_TRUE(std::ranges::equal(written.data, tensor.data)) << tensor.name;
      }
      continue;
    }
    const auto wanted = merged.at(tensor.name), plain = rows_of(decoded, tensor.name);
    const auto scale_name = tensor.name + "_scale_inv";
    const auto scales = rows_of(after, scale_name).flatten(), old = rows_of(before, scale_name).flatten();
    const auto columns = wanted.size(1);
    const auto size = block_of(kind, tensor.name.ends_with("gate_up_proj"), wanted.size(0) / 8, columns);
    const auto high = size.first, wide = size.second;
    ASSERT_EQ(scales.numel(), wanted.size(0) / high * (columns / wide));
    const auto* codes = reinterpret_cast<const uint8_t*>(written.data.data());
    const auto* stored = reinterpret_cast<const uint8_t*>(tensor.data.data());
    for (int64_t block = 0; block < scales.numel(); ++block) {
      const auto row = block / (columns / wide) * high, column = block % (columns / wide) * wide;
      const auto part = [&](const Tensor& all) {
        return all.narrow(0, row, high).narrow(1, column, wide).contiguous();
      };
      const auto values = part(wanted);
      const bool same = at::equal(values, part(plain));
      auto scale = values.abs().max().item<float>() / 448;
      if (kind == "powers") scale = std::exp2(std::ceil(std::log2(scale)));
      const auto found_scale = scales[block].item<float>();
      ASSERT_EQ(found_scale, same ? old[block].item<float>() : scale) << tensor.name << " " << block;
      touched += !same;
      const auto* value = values.const_data_ptr<float>();
      for (int64_t i = 0; i < high * wide; ++i) {
        const auto at = (row + i / wide) * columns + column + i % wide;
        if (same) {
          ASSERT_EQ(codes[at], stored[at]) << tensor.name << " " << at;
          continue;
        }
        const auto exact = value[i] / scale, found = f8_e4m3_to_float(codes[at]),
                   nearest = f8_e4m3_to_float(nearest_code(exact));
        ASSERT_EQ(std::abs(found - exact), std::abs(nearest - exact)) << tensor.name << " " << at;
      }
    }
  }
  // down_proj [32, 160] of expert 5 in three layers, up_proj [160, 32] of expert 2 in one.
  const auto expected = kind == "rows" ? 3 * 32 + 160 : kind == "blocks" || kind == "powers" ? 4 * 20 : 4;
  EXPECT_EQ(touched, expected);

  // The same from the adapter's file, which has experts as whole parameters.
  const fs::path adapter = pair.folder / "adapter";
  write_peft_adapter(adapter, loaded, spec);
  auto opened = load_model({.path = base, .compute = "f32"});
  load_adapter(opened, adapter);
  write_kept_folder(pair.folder / "again", opened, 1);
  const auto again = open_safetensors_folder(pair.folder / "again");
  for (const auto& tensor : after.tensors)
    EXPECT_TRUE(std::ranges::equal(tensor.data, again.find(tensor.name)->data)) << tensor.name;
}

INSTANTIATE_TEST_SUITE_P(, StackedF8Forms,
                         testing::Values("blocks", "powers", "rows", "parts", "experts", "one"));

TEST_F(StackedF8, WithoutATrainingEveryByteIsTheBases) {
  for (const char* kind : {"blocks", "experts", "one"}) {
    make(kind);
    auto loaded = load_model({.path = base, .compute = "f32"});
    ExportSpec keep;
    keep.merged = "keep", keep.gguf.clear();
    EXPECT_EQ(
        refusal_of([&] { rehearse_exports(loaded, keep, spec_of({"down_proj"}), pair.folder / "runs"); }),
        "accepted");
    EXPECT_EQ(write_kept_folder(out, loaded, 2).delta_error, 0);
    for (const auto& entry : fs::directory_iterator(base))
      if (entry.path().extension() == ".safetensors") {
        EXPECT_EQ(read_text(fs::path(out) / entry.path().filename()), read_text(entry.path())) << kind;
      }
    fs::remove_all(base), fs::remove_all(pair.plain()), fs::remove_all(out);
  }
}

// Each number is then the nearest that its block has to PEFT's own sum: a sixteenth of it off at most, or
// half of the step of the smallest.
TEST_F(StackedF8, AnAdapterThatPeftPutOnAWholeParameterIsMerged) {
  make("blocks");
  const auto a = random({8 * 4, 32}, 1), b = random({320, 4 * 8}, 2);
  PeftConfig peft;
  peft.r = 4, peft.lora_alpha = 2;
  peft.target_parameters = {"mlp.experts.gate_up_proj"};
  const fs::path adapter = pair.folder / "adapter";
  write_peft_folder(adapter, peft, {of_parameter("lora_A.weight", a), of_parameter("lora_B.weight", b)});
  auto loaded = load_model({.path = base, .compute = "f32"});
  load_adapter(loaded, adapter);
  write_kept_folder(out, loaded, 2);

  const std::string name = "model.layers.1.mlp.experts.gate_up_proj";
  const auto wanted = rows_of(open_safetensors_folder(pair.plain()), name) +
                      update_by_peft(a, b, 8, 0.5).reshape({8 * 320, 32});
  const auto written = load_model({.path = out, .compute = "f32"});
  for (const auto* layer : std::as_const(*written.model).linears()) {
    if (layer->place.layer != 1 || layer->place.expert < 0 || layer->place.role == Role::down) continue;
    const auto want = part_of(wanted.view({8, 320, 32}), layer->place);
    const auto step = layer->weight.scales.max().item<double>() / 1024;
    const auto off = (widen(layer->weight, at::kFloat) - want).abs() - want.abs() / 16;
    EXPECT_LT(off.max().item<double>(), 1.001 * step + 1e-5) << layer->name;
  }
  const auto before = open_safetensors_folder(base), after = open_safetensors_folder(out);
  for (const auto& tensor : before.tensors)
    EXPECT_EQ(std::ranges::equal(tensor.data, after.find(tensor.name)->data), !tensor.name.starts_with(name))
        << tensor.name;
}

}  // namespace
}  // namespace retort
