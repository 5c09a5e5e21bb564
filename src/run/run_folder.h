// What inside of a run's folder is retort's own. Nothing else there is ever removed or overwritten.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace retort {

// Whether a run has begun in FOLDER.
bool holds_run(const std::filesystem::path& folder);

// Whether a folder inside of a run is that of a round of distill.on_policy: "round-00".
bool is_round(std::string_view name);

// Where rank RANK of retort-ranks keeps its samples while it computes its part of the run in RUN: beside it,
// under a hidden name that is no run of the user's. Of "runs/a" DIRECTORY/runs/.a.retort-rank-1.
std::filesystem::path folder_of_rank(const std::filesystem::path& run, int64_t rank);

// Those that lie on this machine, in the order of their names: ranks that were killed left them.
std::vector<std::filesystem::path> folders_of_ranks(const std::filesystem::path& run);

// RecipeError when FOLDER is there, is not empty and is no run's: files of the user's would stand beside, and
// under the names of, a run's. Also when it cannot be made, or be written to.
void require_run_or_empty(const std::filesystem::path& folder);

// Removes what killed processes left in the places that a run writes to: files that were half-written,
// checkpoints that were being saved or removed. Only for the one who holds the run's lock. Returns what lay
// in the folder itself.
std::vector<std::filesystem::path> remove_leftovers_of_run(const std::filesystem::path& folder);

}  // namespace retort
