// JSON from outside: depth at most 64, no duplicate keys, integers kept whole.
#pragma once
#include <nlohmann/json.hpp>

#include <filesystem>
#include <string_view>

namespace retort {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// Throws FormatError "FILE: byte N: problem". Invalid UTF-8 is refused.
Json parse_json(std::string_view text, std::string_view file);
Json read_json(const std::filesystem::path& path);

}  // namespace retort
