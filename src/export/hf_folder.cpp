#include "adapters/merge.h"
#include "base/files.h"
#include "base/json.h"
#include "export/artefacts.h"
#include "export/merged.h"
#include "formats/weight_file.h"
#include "models/read_config.h"
#include "text/export_tokenizer.h"

namespace retort {

void write_folder_settings(const std::filesystem::path& folder, LoadedModel& loaded) {
  const auto& model = *loaded.model;
  const auto end = end_of_answer(loaded);
  const bool ends_texts = end && !model.config.eos.empty() && model.config.eos.front() == *end;
  write_tokenizer_folder(
      *loaded.tokenizer, folder,
      {loaded.chat_template_source, loaded.other_templates, ends_texts ? end : std::nullopt});
  Json generation = {{"_from_model_config", true}};
  if (!loaded.generation_settings.empty())
    generation = parse_json(loaded.generation_settings, "generation_config.json");
  if (model.config.bos) generation["bos_token_id"] = *model.config.bos;
  if (!model.config.eos.empty())
    generation["eos_token_id"] =
        model.config.eos.size() == 1 ? Json(model.config.eos.front()) : Json(model.config.eos);
  if (model.config.pad) generation["pad_token_id"] = *model.config.pad;
  write_text(folder / "generation_config.json", generation.dump(2) + "\n");
}

Artefact write_hf_folder(const std::filesystem::path& target, LoadedModel& loaded, WeightType type,
                         uint64_t shard_bytes, const Writing& how) {
  auto& model = *loaded.model;
  AtomicFolder staged(target);
  const auto& folder = staged.path();
  std::vector<TensorSource> sources;
  for (auto& tensor : merged_tensors(model)) {
    // Rounding what only chooses experts would choose others: it is fp32 in every DeepSeek.
    const auto stored = tensor.place.role == Role::router_bias ? WeightType::f32 : type;
    sources.push_back({tensor.name, stored, tensor.shape, [=](const auto& sink) {
                         const auto encode = [&](int64_t first, int64_t count) {
                           return encode_rows(tensor.name, stored, tensor.rows(first, count));
                         };
                         encode_in_order(tensor.row_count(), rows_per_chunk(tensor.row_length()), how.threads,
                                         encode, sink);
                       }});
  }
  if (how.weights == Weights::left_out)
    for (auto& source : sources) source.fill = nullptr;
  write_safetensors_folder(folder, sources, shard_bytes);
  write_folder_settings(folder, loaded);
  auto config = hf_config_json(model.config);
  config["dtype"] = type == WeightType::f32 ? "float32" : type == WeightType::f16 ? "float16" : "bfloat16";
  write_text(folder / "config.json", config.dump(2) + "\n");
  staged.commit();

  Artefact artefact{"safetensors", std::string(type_info(type).name), target, 0, {}, 0};
  for (const auto& entry : std::filesystem::directory_iterator(target))
    artefact.bytes += entry.is_regular_file() ? entry.file_size() : 0;
  if (type == WeightType::f32) artefact.exact_within = exact_within(model.config);
  if (how.weights == Weights::left_out) return artefact;
  for (const auto* layer : std::as_const(model).matrices())
    artefact.delta_error = std::max(artefact.delta_error, delta_error(*layer, type));
  return artefact;
}

}  // namespace retort
