// `retort verify RUN`: is everything as the run left it?
#include <fmt/core.h>

#include <algorithm>

#include "cli/commands.h"
#include "report/manifest.h"

namespace retort {

namespace {

struct Options {
  std::string folder, noted;
};

bool is_hash(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void require_noted(const Options& options) {
  if (!is_hash(options.noted))
    throw RecipeError(
        fmt::format("--noted: expected the sha256 of an entry, 64 digits of 0-9 and a-f, found '{}'",
                    printable(options.noted)));
  const auto entries = read_ledger(options.folder);
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const LedgerEntry& entry) { return entry.sha256 == options.noted; });
  if (found == entries.end())
    throw FormatError(fmt::format(
        "{}: {}: no entry has the sha256 {} that was noted; the ledger was written anew since, or "
        "it is another run's",
        printable(options.folder), kLedgerFile, options.noted));
  fmt::print("{}: the noted entry is there: number {} of {}\n", printable(options.folder), found->number,
             entries.size());
}

Exit verify(const Options& options) {
  const auto& folder = options.folder;
  const auto manifest = read_manifest(folder);
  const auto differences = verify_manifest(folder);
  for (const auto& difference : differences)
    fmt::print("{}: {}\n", printable(difference.path), difference.what);
  if (!differences.empty()) {
    std::fflush(stdout);
    throw FormatError(fmt::format("{}: {} differences from what the run recorded of {} files and its ledger",
                                  printable(folder), differences.size(),
                                  manifest.read.size() + manifest.written.size()));
  }
  if (!options.noted.empty()) require_noted(options);
  fmt::print("{}: {} files read and {} files written are as recorded\n", printable(folder),
             manifest.read.size(), manifest.written.size());
  if (manifest.ledger)
    fmt::print("{}: {} entries, each behind the one before; the last has sha256 {}\n", kLedgerFile,
               manifest.ledger->entries, manifest.ledger->sha256);
  else fmt::print("there is no ledger: an earlier version of retort made this run\n");
  return Exit::done;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "verify", "Compare every file of a run with the hashes in its manifest, and its ledger with itself");
  auto options = std::make_shared<Options>();
  command->add_option("run", options->folder, "the run's folder, e.g. runs/medical-icd10-qlora")->required();
  command->add_option("--noted", options->noted,
                      "the sha256 of a ledger entry that was noted elsewhere: it must still be there");
  command->callback([options, &action] { action = [options] { return verify(*options); }; });
}

}  // namespace retort
