#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "formats/peft_folder.h"

namespace retort {

Artefact write_peft_adapter(const std::filesystem::path& folder, LoadedModel& loaded,
                            const AdapterSpec& spec) {
  PeftConfig config;
  config.base_model_name_or_path = loaded.path.filename().string();
  config.r = spec.rank;
  config.lora_alpha = spec.alpha;
  config.lora_dropout = spec.dropout;
  config.use_rslora = spec.kind == "rslora";
  config.use_dora = spec.kind == "dora";
  config.modules_to_save = spec.modules_to_save;
  for (const auto* layer : loaded.model->linears()) {
    if (!layer->adapter) continue;
    const auto last = layer->name.substr(layer->name.rfind('.') + 1);
    if (std::find(config.target_modules.begin(), config.target_modules.end(), last) ==
        config.target_modules.end())
      config.target_modules.push_back(last);
  }
  std::vector<TensorSource> sources;
  for (const auto& trainable : trainables(*loaded.model)) {
    const auto values = trainable.tensor->detach().to(at::kFloat).contiguous();
    sources.push_back({trainable.name, WeightType::f32, values.sizes().vec(), [values](const auto& sink) {
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
