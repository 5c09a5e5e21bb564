#include <map>

#include "adapters/merge.h"
#include "base/files.h"
#include "base/json.h"
#include "export/artefacts.h"
#include "export/merged.h"
#include "formats/weight_file.h"
#include "models/families.h"
#include "models/read_config.h"
#include "models/tensor_names.h"
#include "text/export_tokenizer.h"

namespace retort {
namespace {

// One tensor of a folder: one of the model, or all experts' of a layer in their order.
struct FolderTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<MergedTensor> parts;
};

std::vector<FolderTensor> folder_tensors(const Model& model) {
  const auto& config = model.config;
  const bool stacks = family_of(config).stacked_experts;
  std::vector<FolderTensor> tensors;
  std::map<std::string, size_t> places;
  for (auto& tensor : merged_tensors(model)) {
    const bool part = stacks && tensor.place.expert >= 0;
    const auto name = part ? stack_name(config, tensor.place) : tensor.name;
    const auto [place, is_new] = places.try_emplace(name, tensors.size());
    if (is_new) tensors.push_back({name, tensor.shape, {}});
    tensors[place->second].parts.push_back(
        std::move(tensor));  // gate, up and down of one expert, then the next
  }
  for (auto& [name, shape, parts] : tensors)
    if (parts.front().place.expert >= 0 && stacks)
      shape = {config.experts, shape[0] * static_cast<int64_t>(parts.size()) / config.experts, shape[1]};
  return tensors;
}

}  // namespace

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
  for (const auto& [name, shape, parts] : folder_tensors(model)) {
    // Rounding what only chooses experts would choose others: it is fp32 in every DeepSeek.
    const auto stored = parts.front().place.role == Role::router_bias ? WeightType::f32 : type;
    sources.push_back({name, stored, shape, [=, parts = parts](const auto& sink) {
                         for (const auto& tensor : parts) {
                           const auto encode = [&](int64_t first, int64_t count) {
                             return encode_rows(tensor.name, stored, tensor.rows(first, count));
                           };
                           encode_in_order(tensor.row_count(), rows_per_chunk(tensor.row_length()),
                                           how.threads, encode, sink);
                         }
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
