// `--ranks` and `--machines` of `retort plan` and `retort check`, and what is said about them.
#pragma once
#include <string>
#include <vector>

#include "base/json.h"
#include "cli/commands.h"
#include "plan/machines.h"

namespace retort {

struct MachinesOptions {
  int64_t ranks = 0;
  std::string file;
  bool asked() const { return ranks > 0 || !file.empty(); }
  // The file's, or this one alone. Where they name no number of ranks, --ranks does. RecipeError of a file
  // that is no list.
  std::vector<RankMachine> machines() const;
};
void add_machines_options(CLI::App& command, MachinesOptions& options);

// RecipeError where a rank has more threads than each machine whose number of ranks is to be found.
void require_threads(const MachinesOptions& options, const std::vector<RankMachine>& machines,
                     int64_t threads);

std::string describe(const LoneStep& step, const RankPlans& plans);  // lines and tables
OrderedJson json_of(const LoneStep& step, const RankPlans& plans);
// "" where the machines have the memory; otherwise which of them has not, and what to do.
std::string missing_memory(const RankPlans& plans);

}  // namespace retort
