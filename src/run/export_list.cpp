#include "run/export_list.h"

#include "base/error.h"

namespace retort {

namespace fs = std::filesystem;

uint64_t parameters_of(const Model& model) {
  auto count = static_cast<uint64_t>(model.embedding.weight.rows * model.embedding.weight.columns);
  for (const auto* layer : model.linears())
    count += static_cast<uint64_t>(layer->weight.rows * layer->weight.columns);
  return count;
}

std::vector<Export> exports_of(const ExportSpec& spec, const AdapterSpec& adapter, const fs::path& folder,
                               int64_t threads, const std::string& system) {
  std::vector<Export> list;
  if (spec.adapter && adapter.low_rank()) {
    const auto path = folder / "adapter";
    list.push_back(
        {"adapter", path, {path}, "", false, 0, [adapter](LoadedModel& trained, const fs::path& target) {
           return write_peft_adapter(target, trained, adapter);
         }});
  }
  if (spec.gguf_adapter && adapter.low_rank()) {
    const auto path = folder / "adapter.gguf";
    list.push_back(
        {"gguf adapter", path, {path}, "", false, 0, [adapter](LoadedModel& trained, const fs::path& target) {
           return write_gguf_adapter(target, trained, adapter);
         }});
  }
  if (spec.merged != "none") {
    const auto path = folder / "merged";
    const bool keep = spec.merged == "keep";
    const auto type = keep ? WeightType::f32 : *type_from_name(spec.merged);
    list.push_back({"merged",
                    path,
                    {path},
                    keep ? "keep" : fmt::format("{} shards of {} MiB", spec.merged, spec.shard_mb),
                    true,
                    keep ? 1u  // at least; the writer asks for what the base's files take
                    : type == WeightType::f32 ? 4u
                                              : 2u,
                    [spec, keep, type, threads](LoadedModel& trained, const fs::path& target) {
                      if (keep) return write_kept_folder(target, trained, threads);
                      return write_hf_folder(target, trained, type,
                                             static_cast<uint64_t>(spec.shard_mb) << 20, threads);
                    }});
  }
  for (const auto& name : spec.gguf) {
    const auto path = folder / fmt::format("model-{}.gguf", name);
    auto modelfile = path;
    modelfile.replace_extension(".Modelfile");
    const auto mixture = mixture_from_name(name);
    if (!mixture) throw RecipeError(fmt::format("export.gguf: no mixture is named '{}'", printable(name)));
    list.push_back({name,
                    path,
                    {path, modelfile},
                    (spec.fallback ? "with fallback" : "without fallback") +
                        (system.empty() ? "" : "; system: " + system),
                    true,
                    name == "F32" ? 4u : 2u,
                    [mixture, spec, threads, system](LoadedModel& trained, const fs::path& target) {
                      auto artefact = write_gguf_model(target, trained, *mixture, spec.fallback, threads);
                      auto file = target;
                      write_modelfile(file.replace_extension(".Modelfile"), target, trained, system);
                      return artefact;
                    }});
  }
  return list;
}

}  // namespace retort
