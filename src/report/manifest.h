// manifest.json: the size and sha256 of every file a run read and wrote, so that anyone can check later that
// nothing changed.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "report/ledger.h"

namespace retort {

struct FileRecord {
  std::string path;  // written: relative to the run's folder; read: as it was opened
  uint64_t bytes = 0;
  std::string sha256;

  template <class Visitor> void fields(Visitor& field) {
    field("path", path), field("bytes", bytes), field("sha256", sha256);
  }
};

struct Manifest {
  std::string recipe_sha256;
  std::string device;  // cpu or cuda:N; empty in manifests that were written before there was a choice
  std::vector<FileRecord> read, written;  // each sorted by path
  std::optional<LedgerHead> ledger = {};  // of the run, when the manifest was written; none before 0.2

  template <class Visitor> void fields(Visitor& field) {
    field.rare("recipe_sha256", recipe_sha256), field.rare("device", device), field("read", read),
        field("written", written);
    field.rare("ledger", ledger);
  }
};

FileRecord record_file(const std::filesystem::path& file, const std::string& shown_as);

// Hashes `read` (paths as opened; those inside `folder` are left out: they were written there) and every file
// inside `folder` but manifest.json, *.lock and temporary files.
Manifest make_manifest(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& read,
                       const std::string& recipe_sha256, const std::string& device = {});
// The same, and writes FOLDER/manifest.json.
Manifest write_manifest(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& read,
                        const std::string& recipe_sha256, const std::string& device = {});
// The same of a run with a ledger, which gets a last entry, "closed", with `facts` and the hash of all that
// the manifest lists but the ledger itself: each of the two files says whether the other is what it was.
Manifest close_manifest(Manifest manifest, const std::filesystem::path& folder, Ledger& ledger,
                        OrderedJson facts);
Manifest read_manifest(const std::filesystem::path& folder);
// Whether FOLDER/manifest.json was written after the last change of FOLDER/STAGES and of the ledger, and
// records nothing that comes and goes. A process that is killed between them leaves a manifest for which this
// is false.
bool is_of_this_state(const std::filesystem::path& folder, const std::filesystem::path& stages);

// Signatures that lie in the folder, by their names in it: a manifest leaves them out.
std::vector<std::filesystem::path> signatures_inside(const std::filesystem::path& folder);

struct Difference {
  std::string path;
  std::string what;  // "modified: ...", "missing", "added"
};
// Compares the files now with FOLDER/manifest.json, and the ledger's entries with each other and with it.
// Empty: nothing changed.
std::vector<Difference> verify_manifest(const std::filesystem::path& folder);

}  // namespace retort
