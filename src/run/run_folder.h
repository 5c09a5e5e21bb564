// What inside of a run's folder is retort's own. Nothing else there is ever removed or overwritten.
#pragma once
#include <filesystem>
#include <vector>

namespace retort {

// Whether a run has begun in FOLDER.
bool holds_run(const std::filesystem::path& folder);

// RecipeError when FOLDER is there, is not empty and is no run's: files of the user's would stand beside, and
// under the names of, a run's.
void require_run_or_empty(const std::filesystem::path& folder);

// Removes what killed processes left in the places that a run writes to: files that were half-written,
// checkpoints that were being saved or removed. Only for the one who holds the run's lock. Returns what lay
// in the folder itself.
std::vector<std::filesystem::path> remove_leftovers_of_run(const std::filesystem::path& folder);

}  // namespace retort
