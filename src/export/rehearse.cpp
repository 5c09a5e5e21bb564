#include "export/rehearse.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/files.h"
#include "export/artefacts.h"
#include "models/differing_config.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

// A folder of its own among the machine's temporary ones, gone at the end.
class ScratchFolder {
 public:
  ScratchFolder() {
    auto pattern = (fs::temp_directory_path() / "retort-rehearsal-XXXXXX").string();
    if (!::mkdtemp(pattern.data()))
      throw Failure(pattern +
                    ": a temporary folder cannot be made; set TMPDIR to a folder that can be written");
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    forget_files_in(path_);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// `what` of the recipe writes to `target`; the reason why it cannot comes without the temporary path.
template <class Write>
void rehearse(const std::string& what, const ModelConfig& config, const fs::path& target, Write&& write) {
  const auto refuse = [&](std::string reason) {
    const auto folder = target.parent_path().string() + "/";
    for (auto at = reason.find(folder); at != std::string::npos; at = reason.find(folder))
      reason.erase(at, folder.size());
    throw RecipeError(
        fmt::format("{}: this model cannot be written so: {}; choose another format, or leave this "
                    "export out",
                    what, reason));
  };
  std::optional<std::string> difference;
  try {
    write();
    const auto read = load_model({.path = target.string()});
    difference = what_reads_back_otherwise(config, read.model->config);
  } catch (const FormatError& error) { refuse(error.what()); }
  if (difference) refuse(*difference);
}

}  // namespace

void rehearse_exports(LoadedModel& loaded, const ExportSpec& spec) {
  if (spec.merged == "none" && spec.gguf.empty()) return;
  const ScratchFolder scratch;
  const auto& config = loaded.model->config;
  if (spec.merged != "none") {
    const auto folder = scratch.path() / "merged";
    rehearse("export.merged", config, folder, [&] {
      write_hf_folder(folder, loaded, *type_from_name(spec.merged), uint64_t(spec.shard_mb) << 20, 1,
                      Weights::left_out);
    });
  }
  for (const auto& name : spec.gguf) {
    const auto file = scratch.path() / fmt::format("model-{}.gguf", name);
    rehearse("export.gguf " + name, config, file, [&] {
      write_gguf_model(file, loaded, *mixture_from_name(name), spec.fallback, 1, Weights::left_out);
    });
  }
}

}  // namespace retort
