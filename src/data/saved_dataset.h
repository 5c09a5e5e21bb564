// Folders that Hugging Face's `datasets` saves (save_to_disk): parts of Arrow streams beside state.json and
// dataset_info.json, or dataset_dict.json and such a folder for each split.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace retort {

bool is_saved_dataset(const std::filesystem::path& folder);

// The parts of the split in their order. `split` may be empty where there is one alone. RecipeError for a
// split that is not there or not said, FormatError for a folder that is not as it was saved.
std::vector<std::string> saved_dataset_files(const std::filesystem::path& folder, const std::string& split);

}  // namespace retort
