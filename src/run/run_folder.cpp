#include "run/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"
#include "base/unfinished_file.h"
#include "export/rehearse.h"
#include "quant/mixture.h"
#include "run/model_bom.h"
#include "train/checkpoint.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

// The places of a run: a stage that writes another one adds it here.
constexpr std::array<std::string_view, 16> kFiles = {
    "recipe.yaml",   "stages.json", "manifest.json", "report.html",         "profile.json", "tokens.h5",
    "metrics.jsonl", "speed.jsonl", "run.lock",      "trained.safetensors", "train.lock",   "ledger.jsonl",
    "records.tsv",   "batches.tsv", "dossier.md",    "dossier.html"};
constexpr std::array<std::string_view, 6> kFolders = {"checkpoints", "ce-only",     "eval",
                                                      "export",      "tensorboard", "teacher"};

bool are_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// Absolute, so that "." has a name and "runs/a/" that of "runs/a".
fs::path absolute_run(const fs::path& run) {
  auto folder = fs::absolute(run).lexically_normal();
  return folder.has_filename() ? folder : folder.parent_path();
}

// What the names of its ranks' folders begin with.
std::string beginning_of_ranks(const fs::path& run) {
  return "." + run.filename().string() + ".retort-rank-";
}

bool is_own_folder(const std::string& name) {
  return std::find(kFolders.begin(), kFolders.end(), name) != kFolders.end() || is_round(name);
}

// "report.html.part-123" is that of "report.html".
bool is_part_of_own(const std::string& name) {
  if (!is_unfinished(name)) return false;
  const auto whole = name.substr(0, name.find(".part-"));
  return std::find(kFiles.begin(), kFiles.end(), whole) != kFiles.end();
}

// Of what an export writes: "merged.part-12", "model-Q8_0.gguf.part-12", "adapter.old.part-12"; of what lies
// beside it: "README.md.part-12".
bool is_part_of_export(const std::string& name) {
  if (!is_unfinished(name)) return false;
  auto whole = fs::path(name.substr(0, name.rfind(".part-")));
  if (whole.extension() == ".old") whole = whole.stem();
  if (whole == "adapter" || whole == "adapter.gguf" || whole == "merged" || whole == "README.md" ||
      whole == kBomFile)
    return true;
  const auto stem = whole.stem().string();
  constexpr std::string_view model = "model-";
  return (whole.extension() == ".gguf" || whole.extension() == ".Modelfile") && stem.starts_with(model) &&
         mixture_from_name(stem.substr(model.size()));
}

// Users put files of their own beside exports.
void remove_leftovers_of_exports(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> parts;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (is_part_of_export(entry.path().filename().string())) parts.push_back(entry.path());
  for (const auto& part : parts) fs::remove_all(part, error);
  for (const auto* own : {"adapter", "merged"})
    if (!fs::is_symlink(folder / own)) remove_leftovers(folder / own);
}

bool is_rehearsal(const fs::directory_entry& entry) {
  const auto name = entry.path().filename().string();
  return name.starts_with(kRehearsal) && name.size() == kRehearsal.size() + 6 && entry.is_directory() &&
         !entry.is_symlink();
}

[[noreturn]] void refuse_place(const fs::path& folder, const char* problem, int error_number) {
  const auto message = fmt::format("run.folder: {}: {}", printable(folder.string()), problem);
  if (trouble_of(error_number) != Trouble::bad_input) throw_writing(message, error_number);
  throw RecipeError(fmt::format("{}: {}; name a folder in a place where you may write", message,
                                std::strerror(error_number)));
}

// A folder that is not there yet. Permissions alone do not tell (/proc, a disk that is mounted to be read): a
// folder of another name is made where the first that is missing would stand, and removed.
void require_makeable(const fs::path& folder) {
  const auto whole = absolute_run(folder);
  auto above = whole.parent_path();
  std::error_code error;
  while (above.has_relative_path() && !fs::exists(fs::symlink_status(above, error)))
    above = above.parent_path();
  auto probe = (above / ".retort-XXXXXX").string();
  if (!::mkdtemp(probe.data())) refuse_place(folder, "cannot be made", errno);
  ::rmdir(probe.c_str());
  if (fs::is_symlink(whole)) refuse_place(folder, "is a link to nothing", ENOENT);
}

}  // namespace

bool holds_run(const fs::path& folder) {
  return fs::is_regular_file(folder / "run.lock") || fs::is_regular_file(folder / "stages.json");
}

bool is_round(std::string_view name) {
  constexpr std::string_view prefix = "round-";
  return name.starts_with(prefix) && name.size() >= prefix.size() + 2 &&
         are_digits(name.substr(prefix.size()));
}

fs::path folder_of_rank(const fs::path& run, int64_t rank) {
  const auto folder = absolute_run(run);
  return folder.parent_path() / fmt::format("{}{}", beginning_of_ranks(folder), rank);
}

std::vector<fs::path> folders_of_ranks(const fs::path& run) {
  const auto folder = absolute_run(run);
  const auto beginning = beginning_of_ranks(folder);
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder.parent_path(), error)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(beginning) && are_digits(std::string_view(name).substr(beginning.size())) &&
        entry.is_directory() && !entry.is_symlink() && holds_run(entry.path()))
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

void require_run_or_empty(const fs::path& folder) {
  std::error_code error;
  const auto status = fs::status(folder, error);
  if (status.type() == fs::file_type::none) refuse_place(folder, "cannot be looked at", error.value());
  if (!fs::exists(status)) return require_makeable(folder);
  if (!fs::is_directory(folder))
    throw RecipeError(
        fmt::format("run.folder: {}: is a file; expected the name of a folder", printable(folder.string())));
  if (::access(folder.c_str(), R_OK | W_OK | X_OK) != 0) refuse_place(folder, "cannot be written to", errno);
  if (holds_run(folder)) return;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const auto name = entry.path().filename().string();
    if (name == "teacher" && entry.is_directory()) continue;  // `retort teach` filled it before the run
    if (is_rehearsal(entry)) continue;                        // of a start that was killed
    throw RecipeError(fmt::format(
        "run.folder: {}: is neither empty nor the folder of a run (it holds {}); name a new folder",
        printable(folder.string()), printable(name)));
  }
}

std::vector<fs::path> remove_leftovers_of_run(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> parts, folders;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();
    if (is_part_of_own(name) || is_rehearsal(entry)) parts.push_back(entry.path());
    if (is_own_folder(name) && !entry.is_symlink() && entry.is_directory()) folders.push_back(entry.path());
  }
  for (const auto& part : parts) fs::remove_all(part, error);
  for (const auto& own : folders) {
    if (own.filename() == "export") remove_leftovers_of_exports(own);
    else remove_leftovers(own);
    remove_unfinished_checkpoints(own / "checkpoints");
  }
  remove_unfinished_checkpoints(folder / "checkpoints");
  return parts;
}

}  // namespace retort
