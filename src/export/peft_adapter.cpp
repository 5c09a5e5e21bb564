#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "adapters/attach.h"
#include "adapters/base_match.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "export/artefacts.h"
#include "formats/peft_folder.h"
#include "models/families.h"
#include "models/tensor_names.h"
#include "models/text_part.h"
#include "text/export_tokenizer.h"

namespace retort {
namespace {

// PEFT takes every module whose name ends so, also in the middle of a word ("norm" is the end of
// "input_layernorm"). Where that would be more than what was trained, the modules are named whole.
std::vector<std::string> saved_modules(Model& model, const AdapterSpec& spec) {
  std::vector<std::string> all = {"model.embed_tokens", "lm_head"}, saved;
  for (const auto* layer : model.linears()) all.push_back(layer->name);
  for (const auto& vector : model.vectors()) all.push_back(module_name(model.config, vector.place));
  for (const auto& name : spec.modules_to_save) {
    const bool more = std::any_of(all.begin(), all.end(), [&](const std::string& module) {
      return module.ends_with(name) && !names_module(module, name);
    });
    if (!more) saved.push_back(name);
    else
      std::copy_if(all.begin(), all.end(), std::back_inserter(saved),
                   [&](const std::string& module) { return names_module(module, name); });
  }
  return saved;
}

// The name of a tensor of the adapter, for the model that transformers loads from the base's folder.
std::string name_for_peft(const std::string& name, const LoadedModel& loaded) {
  if (!loaded.multimodal || !name.starts_with(kPeftPrefix)) return name;
  return std::string(kPeftPrefix) + multimodal_module(name.substr(kPeftPrefix.size()));
}

struct NamedValues {
  std::string name;
  Tensor values;
};

// PEFT's embedding has the two matrices the other way round, under other names, as parameters of their own.
NamedValues for_peft(const NamedTensor& trainable, const LoadedModel& loaded) {
  auto name = trainable.name;
  auto values = trainable.tensor->detach().to(at::kFloat);
  if (const auto& embedded = loaded.model->embedding.adapter) {
    const bool a = trainable.tensor == &embedded->a, b = trainable.tensor == &embedded->b;
    if (a || b) {
      name = peft_name(loaded.model->embedding.name, a ? "lora_embedding_B" : "lora_embedding_A");
      values = values.t();
    }
  }
  return {name_for_peft(name, loaded), values.contiguous()};
}

// Where so many decimals agree, it is the same number: what was divided by a rank is multiplied by it again.
double rounded_alpha(double value) {
  const auto whole = std::round(value);
  return std::abs(value - whole) <= 1e-9 * std::abs(value) ? whole : value;
}

// Ranks and alphas of layers that are not those of the config: by the last word of the name where all layers
// of that name have them, by the whole name otherwise.
void add_patterns(PeftConfig& config, const LoadedModel& loaded) {
  struct Exception {
    std::string module, field;
    int64_t rank;
    double alpha;
    bool expert;
  };
  std::vector<Exception> layers;
  for (const auto* layer : std::as_const(*loaded.model).matrices()) {
    if (!layer->adapter) continue;
    const auto rank = layer->adapter->a.size(0);
    const auto root = config.use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
    layers.push_back({loaded.multimodal ? multimodal_module(layer->name) : layer->name,
                      field_name(loaded.model->config, layer->place), rank,
                      rounded_alpha(layer->adapter->scaling * root), layer->place.expert >= 0});
  }
  const auto add = [&](auto& patterns, auto Exception::*value, auto standard) {
    for (const auto& layer : layers) {
      if (layer.*value == standard) continue;
      if (layer.expert)
        throw RecipeError(
            "export.adapter: experts' adapters of several ranks or scales are not written to a file that "
            "PEFT "
            "opens; set export.adapter to false and deploy the merged model");
      const bool all =
          !loaded.multimodal && std::all_of(layers.begin(), layers.end(), [&](const auto& other) {
            return other.field != layer.field || other.*value == layer.*value;
          });
      const auto& name = all ? layer.field : layer.module;
      if (std::none_of(patterns.begin(), patterns.end(),
                       [&](const auto& pattern) { return pattern.first == name; }))
        patterns.emplace_back(name, layer.*value);
    }
  };
  add(config.rank_pattern, &Exception::rank, config.r);
  add(config.alpha_pattern, &Exception::alpha, rounded_alpha(config.lora_alpha));
}

// Of the base that the adapter stands on: what it is known again by.
std::map<std::string, std::string> base_metadata(const LoadedModel& loaded) {
  std::map<std::string, std::string> metadata = {{kBaseHashKey, loaded.sha256.get()}};
  if (!loaded.added_tokens.empty()) {
    auto tokens = Json::array();
    for (const auto& [text, special] : loaded.added_tokens)
      tokens.push_back({{"text", text}, {"special", special}});
    metadata[kAddedTokensKey] = tokens.dump();
  }
  const auto adapters = adapters_on(*loaded.model);
  if (adapters.empty()) return metadata;
  metadata[kBaseTypeKey] = type_info(base_type(adapters)).name;
  metadata[kBaseProductKey] = fmt::format("{:.9g}", base_product(adapters));
  return metadata;
}

// PEFT takes the gates, ups and downs of a model with experts for those of its experts alone, whatever other
// layers have these names: such are named as the matrices that they are ("shared_experts.up_proj.weight").
bool beside_experts(const ModelConfig& config, const TensorPlace& place) {
  if (config.experts == 0 || place.expert >= 0) return false;
  switch (place.role) {
    case Role::gate:
    case Role::up:
    case Role::down:
    case Role::shared_gate:
    case Role::shared_up:
    case Role::shared_down: return true;
    default: return false;
  }
}

// "model.layers.3.mlp.shared_experts.up_proj" -> "shared_experts.up_proj.weight"
std::string parameter_name(const std::string& layer) {
  return layer.substr(layer.rfind('.', layer.rfind('.') - 1) + 1) + ".weight";
}

void add_once(std::vector<std::string>& names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
}

// An expert's matrix that transformers keeps in one parameter with those of all of the layer.
bool in_stack(const ModelConfig& config, const TensorPlace& place) {
  return place.expert >= 0 && family_of(config).stacked_experts;
}

// Adapters of such matrices, which PEFT puts on the whole parameter (target_parameters).
struct Stacks {
  std::map<std::string, std::vector<const Linear*>> layers;  // by the parameter's name, with an adapter
  std::set<const Tensor*> tensors;                           // their A and B
};
Stacks stacks_of(const Model& model) {
  Stacks stacks;
  for (const auto* layer : model.linears()) {
    if (!layer->adapter || !in_stack(model.config, layer->place)) continue;
    stacks.layers[stack_name(model.config, layer->place)].push_back(layer);
    stacks.tensors.insert(&layer->adapter->a), stacks.tensors.insert(&layer->adapter->b);
  }
  return stacks;
}

// A [X r, in] and B [out, r X] of one parameter, zeros for an expert without an adapter; of gate and up each
// has a half of twice the rank for itself (formats/peft_folder.h).
std::pair<Tensor, Tensor> joined(const ModelConfig& config, const std::vector<const Linear*>& layers) {
  const auto& first = *layers[0];
  const bool both = first.place.role != Role::down;
  const auto in = first.weight.columns, rows = first.weight.rows, rank = first.adapter->a.size(0),
             parts = int64_t{both ? 2 : 1};
  auto a = at::zeros({config.experts, parts * rank, in}, at::TensorOptions(at::kFloat));
  auto b = at::zeros({parts * rows, parts * rank, config.experts}, at::TensorOptions(at::kFloat));
  for (const auto* layer : layers) {
    const auto part = int64_t{layer->place.role == Role::up ? 1 : 0};
    a[layer->place.expert].narrow(0, part * rank, rank).copy_(layer->adapter->a);
    b.select(2, layer->place.expert)
        .narrow(0, part * rows, rows)
        .narrow(1, part * rank, rank)
        .copy_(layer->adapter->b);
  }
  return {a.view({config.experts * parts * rank, in}), b.view({parts * rows, parts * rank * config.experts})};
}

// PEFT wraps a layer's experts once for gate_up_proj and, around that, once for down_proj, where both are
// adapted.
void add_stacks(const Stacks& stacks, const LoadedModel& loaded, PeftConfig& config,
                const std::function<void(const std::string& name, const Tensor& values)>& add) {
  if (stacks.layers.empty()) return;
  const at::NoGradGuard no_graph;
  constexpr std::string_view kGateUp = ".gate_up_proj";
  if (std::any_of(stacks.layers.begin(), stacks.layers.end(),
                  [&](const auto& stack) { return stack.first.ends_with(kGateUp); })) {
    const auto pattern = "experts" + std::string(kGateUp);
    config.rank_pattern.emplace_back(pattern, 2 * config.r);
    config.alpha_pattern.emplace_back(pattern, 2 * config.lora_alpha);
  }
  for (const auto& [parameter, layers] : stacks.layers) {
    const auto whole = loaded.multimodal ? multimodal_module(parameter) : parameter;
    add_once(config.target_parameters, whole);
    auto module = parameter.substr(0, parameter.rfind('.'));
    if (parameter.ends_with(kGateUp) && stacks.layers.contains(module + ".down_proj"))
      module += ".base_layer";
    const auto [a, b] = joined(loaded.model->config, layers);
    add(name_for_peft(peft_name(module, "lora_A.weight"), loaded), a);
    add(name_for_peft(peft_name(module, "lora_B.weight"), loaded), b);
  }
}

}  // namespace

Artefact write_peft_adapter(const std::filesystem::path& folder, LoadedModel& loaded,
                            const AdapterSpec& spec) {
  PeftConfig config;
  config.base_model_name_or_path = loaded.path.filename().string();
  config.r = spec.rank;
  config.lora_alpha = spec.alpha;
  config.lora_dropout = spec.dropout;
  config.use_rslora = spec.kind == "rslora";
  config.use_dora = spec.kind == "dora";
  config.modules_to_save = saved_modules(*loaded.model, spec);
  if (loaded.multimodal)
    for (auto& module : config.modules_to_save) module = multimodal_module(module);
  bool on_experts = false;
  for (const auto* layer : std::as_const(*loaded.model).matrices()) {
    if (!layer->adapter) continue;
    on_experts = on_experts || layer->place.expert >= 0;
    if (in_stack(loaded.model->config, layer->place)) continue;
    // transformers has no module of this name: by its end PEFT would take those of other layers for it.
    if (layer->place.layer >= loaded.model->config.layers) {
      add_once(config.target_modules, loaded.multimodal ? multimodal_module(layer->name) : layer->name);
      continue;
    }
    if (beside_experts(loaded.model->config, layer->place)) {
      add_once(config.target_parameters, parameter_name(layer->name));
      continue;
    }
    // Of a multimodal model PEFT would take the layers of the same names in its other parts as well.
    const auto last =
        loaded.multimodal ? multimodal_module(layer->name) : field_name(loaded.model->config, layer->place);
    add_once(config.target_modules, last);
  }
  const auto& embedding = loaded.model->embedding;
  const auto& head = loaded.model->head.linear;
  if (embedding.rows) config.trainable_tokens.emplace_back("embed_tokens", embedding.rows->ids);
  if (head.rows && !loaded.model->config.tied_head)
    config.trainable_tokens.emplace_back("lm_head", head.rows->ids);
  // PEFT joins the gates and ups of experts into adapters of twice the rank and doubles alpha, which rsLoRA's
  // root makes another scale: the same update as plain LoRA.
  if (config.use_rslora && on_experts) {
    config.use_rslora = false;
    config.lora_alpha = spec.scaling() * static_cast<double>(spec.rank);
  }
  add_patterns(config, loaded);
  const auto stacks = stacks_of(std::as_const(*loaded.model));
  // Dropout is no part of what was trained, and PEFT opens no adapter of a parameter that has some.
  if (on_experts || !config.target_parameters.empty()) config.lora_dropout = 0;
  std::vector<TensorSource> sources;
  const auto add_source = [&](const std::string& name, const Tensor& values) {
    sources.push_back({name, WeightType::f32, values.sizes().vec(), [values](const auto& sink) {
                         sink(std::as_bytes(std::span(values.template const_data_ptr<float>(),
                                                      static_cast<size_t>(values.numel()))));
                       }});
  };
  for (const auto& trainable : trainables(*loaded.model)) {
    if (stacks.tensors.contains(trainable.tensor)) continue;
    const auto [name, values] = for_peft(trainable, loaded);
    add_source(name, values);
  }
  add_stacks(stacks, loaded, config,
             [&](const std::string& name, const Tensor& values) { add_source(name, values); });
  if (sources.empty())
    throw RecipeError("export.adapter: the model has no adapter to write; set export.adapter: false");
  AtomicFolder staged(folder);
  write_peft_folder(staged.path(), config, sources, base_metadata(loaded));
  // Whoever opens the adapter enlarges the base to so many tokens first.
  if (!loaded.added_tokens.empty())
    write_tokenizer_folder(*loaded.tokenizer, staged.path(),
                           {loaded.chat_template_source, loaded.other_templates, std::nullopt});
  staged.commit();
  return {"peft", spec.kind, folder, std::filesystem::file_size(folder / "adapter_model.safetensors"), {}, 0};
}

}  // namespace retort
