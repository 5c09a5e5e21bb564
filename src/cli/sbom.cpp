// `retort sbom`: what this program is made of, compared with what is here.
#include <fmt/core.h>

#include <cstdio>

#include "base/error.h"
#include "cli/commands.h"
#include "run/program_bom.h"

namespace retort {

namespace {

Exit sbom() {
  const auto bom = read_program_bom();
  if (!bom.differences.empty()) {
    for (const auto& line : bom.differences) fmt::print("{}\n", line);
    std::fflush(stdout);
    throw FormatError(
        fmt::format("{}: {} differences between the files that it lists and those that are here; "
                    "unpack the package again, or run tools/package sbom after a build",
                    printable(bom.file.string()), bom.differences.size()));
  }
  fmt::print("{}", bom.text);
  return Exit::done;
}

}  // namespace

void add_sbom(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "sbom",
      "Print what the program is made of (CycloneDX 1.7), after comparing it with the files that are here");
  command->callback([&action] { action = [] { return sbom(); }; });
}

}  // namespace retort
