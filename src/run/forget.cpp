#include "run/forget.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/files.h"
#include "base/json_fields.h"
#include "base/locked_folder.h"
#include "report/manifest.h"
#include "run/run_folder.h"
#include "run/who.h"

namespace retort {

namespace fs = std::filesystem;

int64_t add_to_forget_list(const fs::path& list, const std::set<std::string>& hashes) {
  auto all = fs::exists(list) ? read_forget_list(list) : std::set<std::string>();
  const auto before = all.size();
  all.insert(hashes.begin(), hashes.end());
  if (all.size() == before) return 0;
  std::string text =
      "# Records that are not used, by hash (data.forget of the recipe); `retort forget` adds to this "
      "list.\n";
  for (const auto& hash : all) text += hash + "\n";
  write_text(list, text);
  return static_cast<int64_t>(all.size() - before);
}

std::vector<fs::path> made_of_records(const fs::path& run_folder) {
  constexpr std::array<std::string_view, 13> kMade = {
      "tokens.h5",  "trained.safetensors", "checkpoints", "ce-only",      "eval",        "export",
      "teacher",    "report.html",         "dossier.md",  "dossier.html", "stages.json", "records.tsv",
      "batches.tsv"};
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_folder, error)) {
    const auto name = entry.path().filename().string();
    if (std::find(kMade.begin(), kMade.end(), name) != kMade.end() || is_round(name))
      found.push_back(entry.path());
  }
  const auto of_ranks = folders_of_ranks(run_folder);
  found.insert(found.end(), of_ranks.begin(), of_ranks.end());
  std::sort(found.begin(), found.end());
  return found;
}

namespace {

// By their names in the run's folder; those beside it begin with "../".
std::vector<FileRecord> files_of(const std::vector<fs::path>& paths, const fs::path& folder) {
  const auto root = fs::absolute(folder).lexically_normal();
  std::vector<FileRecord> files;
  const auto add = [&](const fs::path& file) {
    files.push_back(
        record_file(file, fs::absolute(file).lexically_normal().lexically_relative(root).string()));
  };
  for (const auto& path : paths) {
    if (fs::is_regular_file(path)) add(path);
    if (!fs::is_directory(path) || fs::is_symlink(path)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file()) add(entry.path());
  }
  return files;
}

}  // namespace

Forgotten forget_in_run(const LoadedRecipe& loaded, const std::set<std::string>& hashes, bool remove) {
  const fs::path folder = loaded.recipe.run.folder;
  Forgotten forgotten;
  auto list = folder / kRecordsFile;
  if (!fs::exists(list))  // killed before it was written; a rank's list is the same
    for (const auto& path : folders_of_ranks(folder))
      if (fs::exists(path / kRecordsFile)) list = path / kRecordsFile;
  if (!holds_run(folder) || !fs::exists(list)) return forgotten;
  const LockedFolder lock(folder);
  std::vector<LockedFolder> ranks;  // nobody computes in them either
  if (remove)
    for (const auto& path : folders_of_ranks(folder)) ranks.emplace_back(path);
  read_record_list(list, [&](const ListedRecord& record) {
    if (!hashes.contains(record.hash) || record.side == "left_out") return;
    forgotten.records.push_back(record.hash);
    ++(record.side == "train" ? forgotten.learned : forgotten.held_out);
  });
  if (forgotten.records.empty()) return forgotten;
  const auto before = fs::exists(folder / "manifest.json") ? read_manifest(folder) : Manifest{};
  Ledger ledger(folder);
  ledger.begin(who_and_where(loaded));
  ledger.add("forget", {{"records", forgotten.records}, {"list", loaded.recipe.data.forget}});
  if (remove) {
    const auto paths = made_of_records(folder);
    const auto files = files_of(paths, folder);
    ledger.add("deleted",
               {{"why", "made of records that are to be forgotten"}, {"files", json_as<OrderedJson>(files)}});
    ledger.settle();  // what is removed is said before it is gone
    for (const auto& path : paths) {
      std::error_code error;
      fs::remove_all(path, error);
      if (error) throw Failure(fmt::format("{}: cannot be removed: {}", path.string(), error.message()));
    }
    sync_folder(folder);
    for (const auto& file : files) forgotten.removed.push_back(file.path);
  }
  auto manifest = make_manifest(folder, {}, loaded.sha256, before.device);
  manifest.read = before.read;
  close_manifest(std::move(manifest), folder, ledger, OrderedJson::object());
  return forgotten;
}

}  // namespace retort
