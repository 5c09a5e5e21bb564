// Keys that were called otherwise once. Their old names are read, with a line that says the new one.
#pragma once
#include <string>
#include <vector>

#include "spec/yaml.h"

namespace retort {

// The name of today of `path` (data.row_tokens: data.sample_tokens); "" where it was never another.
std::string name_now(const std::string& path);

// Keys of the tree get their names of today; a line for each into `notes`. One that is there under both names
// stays, and is an unknown key.
void rename_old_keys(YamlNode& root, std::vector<std::string>& notes);

// "data.row_tokens=256" as "data.sample_tokens=256".
std::string with_name_now(const std::string& assignment, std::vector<std::string>& notes);

}  // namespace retort
