// Records that must not be learned: what of a run met them, and taking out what it made of them.
#pragma once
#include "recipe/recipe.h"
#include "run/trace.h"

namespace retort {

// Writes `hashes` into the list that data.forget names, beside those that it holds, each once and in order.
// Returns how many are new.
int64_t add_to_forget_list(const std::filesystem::path& list, const std::set<std::string>& hashes);

// What a run that met some of the records loses: weights, token ids, answers, report and stages, and the
// folders of its ranks. The recipe, the ledger and the numbers of the training stay.
std::vector<std::filesystem::path> made_of_records(const std::filesystem::path& run_folder);

struct Forgotten {
  std::vector<std::string> records;   // hashes that the run met
  std::vector<std::string> removed;   // files, where they were to be
  int64_t learned = 0, held_out = 0;  // of these records
};

// Says in the run's ledger that these records are to be forgotten and, where `remove`, removes what it made
// of them and says that too, file by file with its hash. Failure where another process works in the folder.
Forgotten forget_in_run(const LoadedRecipe& loaded, const std::set<std::string>& hashes, bool remove);

}  // namespace retort
