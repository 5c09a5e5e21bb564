// `retort verify RUN`: is everything as the run left it?
#include <fmt/core.h>

#include "cli/commands.h"
#include "report/manifest.h"

namespace retort {

namespace {

Exit verify(const std::string& folder) {
  const auto manifest = read_manifest(folder);
  const auto differences = verify_manifest(folder);
  for (const auto& difference : differences)
    fmt::print("{}: {}\n", printable(difference.path), difference.what);
  if (!differences.empty()) {
    std::fflush(stdout);
    throw FormatError(fmt::format("{}: {} of {} recorded files differ or were added", printable(folder),
                                  differences.size(), manifest.read.size() + manifest.written.size()));
  }
  fmt::print("{}: {} files read and {} files written are as recorded\n", printable(folder),
             manifest.read.size(), manifest.written.size());
  return Exit::done;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("verify", "Compare every file of a run with the hashes in its manifest");
  auto folder = std::make_shared<std::string>();
  command->add_option("run", *folder, "the run's folder, e.g. runs/medical-icd10-qlora")->required();
  command->callback([folder, &action] { action = [folder] { return verify(*folder); }; });
}

}  // namespace retort
