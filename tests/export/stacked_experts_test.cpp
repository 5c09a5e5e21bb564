// Experts that a folder has in two tensors a layer (Mistral Small 4): adapters as PEFT puts them on whole
// parameters (target_parameters), and merged matrices in the base's own tensors.
#include <gtest/gtest.h>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "adapters/merge.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/adapter_folder.h"
#include "formats/golden_file.h"  // tests/formats
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

// What an expert's matrix is of its layer's tensor.
Tensor part_of(const Tensor& stack, const TensorPlace& place) {
  const auto one = stack[place.expert];
  if (place.role == Role::down) return one;
  return one.chunk(2)[place.role == Role::up ? 1u : 0u];
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
    const auto source = [](const std::string& name, const Tensor& values) {
      return tensor_source(
          peft_name("model.layers.1.mlp.experts", name), WeightType::f32, values.sizes().vec(),
          std::as_bytes(std::span(values.const_data_ptr<float>(), static_cast<size_t>(values.numel()))));
    };
    PeftConfig peft;
    peft.r = 4, peft.lora_alpha = 2;
    peft.target_parameters = {"mlp.experts.gate_up_proj"};
    const fs::path out = folder / "adapter";
    write_peft_folder(out, peft, {source("lora_A.weight", a), source("lora_B.weight", b)});
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
    write_peft_folder(out, peft, {source("lora_A.weight", a), source("lora_B.weight", b)});
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

}  // namespace retort
