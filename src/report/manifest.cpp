#include "report/manifest.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/json_fields.h"
#include "base/unfinished_file.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kName = "manifest.json";

// A file that was not finished, or one inside of a folder that was not: half-written files, checkpoints that
// were being saved or removed.
bool comes_and_goes(const fs::path& file) {
  return std::any_of(file.begin(), file.end(), [](const fs::path& part) {
    const auto name = part.string();
    return is_unfinished(name) || name.starts_with(".saving-step-") || name.starts_with(".removing-step-");
  });
}

// What retort-sign writes: model.sig in the folder that was signed, NAME.sig beside the file NAME.
bool is_signature(const fs::path& file) {
  return file.filename() == "model.sig" ||
         (file.extension() == ".sig" && fs::is_regular_file(file.parent_path() / file.stem()));
}

// Locks and half-written files come and go; the manifest cannot hash itself, only those of checkpoints.
// Signatures are made when the run is finished, and speak for themselves. `file` is relative to the run.
bool recorded(const fs::path& folder, const fs::path& file) {
  return file != kName && !file.filename().string().ends_with(".lock") && !comes_and_goes(file) &&
         !is_signature(folder / file);
}

template <class Wanted> std::vector<fs::path> files_inside(const fs::path& folder, const Wanted& wanted) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    auto file = entry.path().lexically_relative(folder);
    if (entry.is_regular_file() && wanted(file)) files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<fs::path> files_inside(const fs::path& folder) {
  return files_inside(folder, [&](const fs::path& file) { return recorded(folder, file); });
}

// manifest.json. The version is read before the rest, which another one may have otherwise.
struct ManifestVersion {
  int64_t version = 1;
  template <class Visitor> void fields(Visitor& field) { field("version", version); }
};
struct ManifestFile {
  int64_t version = 1;
  Manifest manifest;
  template <class Visitor> void fields(Visitor& field) { field("version", version), manifest.fields(field); }
};

constexpr const char* kClosed = "closed";  // the ledger's entry about the manifest

// Of every file read and written but the ledger, name by name.
std::string hash_of_lists(const Manifest& manifest) {
  Sha256 hash;
  for (const auto* list : {&manifest.read, &manifest.written})
    for (const auto& record : *list)
      if (record.path != kLedgerFile)
        hash.add(fmt::format("{} {} {}\n", record.sha256, record.bytes, record.path));
  return hash.hex();
}

// The manifest against the last entry of the ledger that is about one.
void compare_with_ledger(const fs::path& folder, const Manifest& manifest,
                         std::vector<Difference>& differences) {
  const auto faults = verify_ledger(folder, manifest.ledger);
  for (const auto& fault : faults)
    differences.push_back({fmt::format("{}: {}", kLedgerFile, fault.entry), fault.what});
  if (!faults.empty()) return;
  const auto entries = read_ledger(folder);
  if (!manifest.ledger) {
    if (!entries.empty()) differences.push_back({kName, "modified: it names no ledger, and there is one"});
    return;
  }
  const auto closed = std::find_if(entries.rbegin(), entries.rend(),
                                   [](const LedgerEntry& entry) { return entry.event == kClosed; });
  if (closed == entries.rend()) return differences.push_back({kLedgerFile, "has no entry 'closed'"});
  const auto found = closed->facts.value("files_sha256", "");
  if (const auto hash = hash_of_lists(manifest); hash != found)
    differences.push_back({kName, fmt::format("modified: its lists of files have sha256 {}, entry {} of {} "
                                              "has {}",
                                              hash, closed->number, kLedgerFile, printable(found))});
}

}  // namespace

FileRecord record_file(const fs::path& file, const std::string& shown_as) {
  return {shown_as, fs::file_size(file), sha256_file(file)};
}

Manifest make_manifest(const fs::path& folder, const std::vector<fs::path>& read,
                       const std::string& recipe_sha256, const std::string& device) {
  Manifest manifest{recipe_sha256, device, {}, {}};
  const auto root = fs::weakly_canonical(folder);
  std::set<std::string> seen;
  for (const auto& file : read) {
    const auto inside = fs::weakly_canonical(file).lexically_relative(root).string();
    if (!inside.empty() && !inside.starts_with("..")) continue;
    if (!fs::is_regular_file(file) || !seen.insert(file.string()).second) continue;
    manifest.read.push_back(record_file(file, file.string()));
  }
  std::sort(manifest.read.begin(), manifest.read.end(),
            [](const FileRecord& a, const FileRecord& b) { return a.path < b.path; });
  for (const auto& file : files_inside(folder))
    manifest.written.push_back(record_file(folder / file, file.string()));
  return manifest;
}

Manifest write_manifest(const fs::path& folder, const std::vector<fs::path>& read,
                        const std::string& recipe_sha256, const std::string& device) {
  auto manifest = make_manifest(folder, read, recipe_sha256, device);
  write_text(folder / kName, json_as<OrderedJson>(ManifestFile{1, manifest}).dump(2) + "\n");
  return manifest;
}

Manifest close_manifest(Manifest manifest, const fs::path& folder, Ledger& ledger, OrderedJson facts) {
  std::erase_if(manifest.written, [](const FileRecord& record) { return record.path == kLedgerFile; });
  facts["files_read"] = manifest.read.size();
  facts["files_written"] = manifest.written.size();
  facts["files_sha256"] = hash_of_lists(manifest);
  ledger.add(kClosed, std::move(facts));
  ledger.settle();
  manifest.ledger = ledger.head();
  manifest.written.push_back(record_file(folder / kLedgerFile, kLedgerFile));
  std::sort(manifest.written.begin(), manifest.written.end(),
            [](const FileRecord& a, const FileRecord& b) { return fs::path(a.path) < fs::path(b.path); });
  write_text(folder / kName, json_as<OrderedJson>(ManifestFile{1, manifest}).dump(2) + "\n");
  return manifest;
}

Manifest read_manifest(const fs::path& folder) {
  const auto file = folder / kName;
  if (!fs::exists(file)) corrupt(file.string(), "", "no such file; is this the folder of a finished run?");
  const auto json = read_json(file);
  const JsonPlace place{file.string()};
  if (read_as<ManifestVersion>(json, place).version != 1)
    corrupt(file.string(), "", "expected a manifest of version 1");
  return read_as<ManifestFile>(json, place).manifest;
}

std::vector<fs::path> signatures_inside(const fs::path& folder) {
  return files_inside(folder, [&](const fs::path& file) { return is_signature(folder / file); });
}

bool is_of_this_state(const fs::path& folder, const fs::path& stages) {
  if (!fs::exists(folder / kName)) return false;
  try {
    const auto manifest = read_manifest(folder);
    const auto& written = manifest.written;
    const auto same = [&](const fs::path& file) {
      const auto recorded = std::find_if(written.begin(), written.end(), [&](const FileRecord& record) {
        return record.path == file.string();
      });
      return recorded != written.end() && fs::is_regular_file(folder / file) &&
             recorded->sha256 == sha256_file(folder / file);
    };
    const bool kept = fs::exists(folder / kLedgerFile);
    return same(stages) && kept == manifest.ledger.has_value() && (!kept || same(kLedgerFile)) &&
           std::none_of(written.begin(), written.end(),
                        [](const FileRecord& record) { return comes_and_goes(record.path); });
  } catch (const FormatError&) { return false; }  // what cannot be read is no record of anything
}

std::vector<Difference> verify_manifest(const fs::path& folder) {
  const auto manifest = read_manifest(folder);
  std::vector<Difference> differences;
  const auto compare = [&](const FileRecord& record, const fs::path& file) {
    if (!fs::is_regular_file(file)) return differences.push_back({record.path, "missing"});
    if (const auto size = fs::file_size(file); size != record.bytes) {
      return differences.push_back(
          {record.path, fmt::format("modified: {} now, {} recorded", bytes(size), bytes(record.bytes))});
    }
    if (const auto hash = sha256_file(file); hash != record.sha256) {
      differences.push_back(
          {record.path, fmt::format("modified: sha256 {} now, {} recorded", hash, record.sha256)});
    }
  };
  for (const auto& record : manifest.read) compare(record, record.path);
  std::set<std::string> known;
  for (const auto& record : manifest.written) {
    known.insert(record.path);
    // A manifest from outside must not make us read elsewhere.
    if (record.path.starts_with("/") || record.path.find("..") != std::string::npos)
      corrupt((folder / kName).string(), record.path, "a written file lies outside the run");
    compare(record, folder / record.path);
  }
  for (const auto& file : files_inside(folder)) {
    if (!known.count(file.string())) differences.push_back({file.string(), "added"});
  }
  compare_with_ledger(folder, manifest, differences);
  return differences;
}

}  // namespace retort
