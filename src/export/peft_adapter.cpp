#include <algorithm>
#include <iterator>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "formats/peft_folder.h"
#include "models/tensor_names.h"
#include "models/text_part.h"

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
  for (const auto* layer : loaded.model->linears()) {
    if (!layer->adapter) continue;
    on_experts = on_experts || layer->place.expert >= 0;
    if (beside_experts(loaded.model->config, layer->place)) {
      add_once(config.target_parameters, parameter_name(layer->name));
      continue;
    }
    // Of a multimodal model PEFT would take the layers of the same names in its other parts as well.
    const auto last =
        loaded.multimodal ? multimodal_module(layer->name) : field_name(loaded.model->config, layer->place);
    add_once(config.target_modules, last);
  }
  // PEFT joins the gates and ups of experts into adapters of twice the rank and doubles alpha, which rsLoRA's
  // root makes another scale: the same update as plain LoRA.
  if (config.use_rslora && on_experts) {
    config.use_rslora = false;
    config.lora_alpha = spec.scaling() * static_cast<double>(spec.rank);
  }
  std::vector<TensorSource> sources;
  for (const auto& trainable : trainables(*loaded.model)) {
    const auto values = trainable.tensor->detach().to(at::kFloat).contiguous();
    sources.push_back({name_for_peft(trainable.name, loaded), WeightType::f32, values.sizes().vec(),
                       [values](const auto& sink) {
                         sink(std::as_bytes(std::span(values.template const_data_ptr<float>(),
                                                      static_cast<size_t>(values.numel()))));
                       }});
  }
  if (sources.empty())
    throw RecipeError("export.adapter: the model has no adapter to write; set export.adapter: false");
  AtomicFolder staged(folder);
  write_peft_folder(staged.path(), config, sources, {{kBaseHashKey, loaded.sha256.get()}});
  staged.commit();
  return {"peft", spec.kind, folder, std::filesystem::file_size(folder / "adapter_model.safetensors"), {}, 0};
}

}  // namespace retort
