// JSON from outside: depth at most 64, no duplicate keys, integers of up to 64 bits kept whole.
#pragma once
#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace retort {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

// How parse_json() ends what it says of a text that is no JSON.
constexpr std::string_view kBrokenJson = "is not valid JSON (or not UTF-8) here";

// Throws FormatError "FILE: byte N: problem". Refused: duplicate keys, nesting beyond 64, invalid UTF-8, lone
// surrogates, NUL bytes, numbers beyond a double's range, anything after the value. An integer beyond 64 bits
// (Hugging Face writes 10^30 for "no limit") becomes a double; whole_number() tells them apart.
Json parse_json(std::string_view text, std::string_view file);
Json read_json(const std::filesystem::path& path);  // at most 512 MiB

// Sizes, counts and offsets: the value when it was written as digits alone (no sign, fraction or exponent)
// and fits 64 bits.
std::optional<uint64_t> whole_number(const Json& value);

}  // namespace retort
