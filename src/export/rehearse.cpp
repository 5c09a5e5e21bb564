#include "export/rehearse.h"

#include "adapters/attach.h"
#include "base/error.h"
#include "base/scratch_folder.h"
#include "export/artefacts.h"
#include "models/differing_config.h"
#include "models/read_config.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// `what` of the recipe writes to `target`; the reason why it cannot comes without the temporary path.
template <class Write>
void rehearse(const std::string& what, const ModelConfig& config, const fs::path& target, Write&& write) {
  const auto refuse = [&](std::string reason) {
    const auto folder = target.parent_path().string() + "/";
    for (auto at = reason.find(folder); at != std::string::npos; at = reason.find(folder))
      reason.erase(at, folder.size());
    if (reason.starts_with("export.")) throw RecipeError(reason);  // names the key and what to do instead
    throw RecipeError(
        fmt::format("{}: this model cannot be written so: {}; choose another format, or leave this "
                    "export out",
                    what, reason));
  };
  std::optional<std::string> difference;
  try {
    write();
    // Layers are holes, which would become pages of zeros if they were read.
    const auto read = load_model({.path = target.string(), .schedule = "layers"});
    difference = what_reads_back_otherwise(config, read.model->config);
  } catch (const FormatError& error) {
    refuse(error.what());
  } catch (const RecipeError& error) {  // of a tokenizer, or of a key that it names
    if (std::string_view(error.what()).starts_with("export.")) throw;
    refuse(error.what());
  }
  if (difference) refuse(*difference);
}

}  // namespace

void rehearse_exports(LoadedModel& loaded, const ExportSpec& spec, const AdapterSpec& adapter,
                      const fs::path& parent) {
  if (spec.gguf_adapter && adapter.low_rank() && !loaded.added_tokens.empty())
    throw RecipeError(
        "export.gguf_adapter: a GGUF adapter cannot hold the rows of added tokens (model.add_tokens); set it "
        "to "
        "false and deploy the merged model");
  if (spec.gguf_adapter && unties(*loaded.model, adapter))
    throw RecipeError(
        "export.gguf_adapter: the base's embedding and head are one tensor, on which a GGUF adapter of one "
        "of "
        "them would change both; set it to false and deploy the merged model");
  if (spec.merged == "none" && spec.gguf.empty()) return;
  if (!spec.gguf.empty() && unties(*loaded.model, adapter)) {
    auto apart = loaded.model->config;
    apart.tied_head = false;
    try {
      gguf_metadata(apart);
    } catch (const Error& error) {
      throw RecipeError(fmt::format(
          "{} (the adapter section gives embedding and head a matrix each; they are one in the base)",
          error.what()));
    }
  }
  const ScratchFolder scratch(parent, kRehearsal);
  const auto& config = loaded.model->config;
  if (spec.merged != "none") {
    const auto folder = scratch.path() / "merged";
    if (spec.merged == "keep" && unties(*loaded.model, adapter))
      throw RecipeError(
          "export.merged: keep: the base's embedding and head are one matrix, and the adapter section gives "
          "each its own; set bf16");
    rehearse("export.merged", config, folder, [&] {
      if (spec.merged == "keep") write_kept_folder(folder, loaded, {1, Weights::left_out});
      else
        write_hf_folder(folder, loaded, *type_from_name(spec.merged), uint64_t(spec.shard_mb) << 20,
                        {1, Weights::left_out});
    });
  }
  for (const auto& name : spec.gguf) {
    const auto file = scratch.path() / fmt::format("model-{}.gguf", name);
    rehearse("export.gguf " + name, config, file, [&] {
      write_gguf_model(file, loaded, *mixture_from_name(name), spec.fallback, {1, Weights::left_out});
    });
  }
}

}  // namespace retort
