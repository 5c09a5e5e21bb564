// YAML from outside, as a tree with places. Much less than YAML is accepted: one document of maps, lists and
// scalars. Anchors, aliases, tags, merge keys, duplicate keys, further documents, nesting beyond 32 and texts
// beyond 1 MiB are refused.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Where a piece of the recipe was written: a file's line and column (from 1), or the command line (line 0).
struct Place {
  std::string source;  // "recipes/a.yaml" or "command line: train.steps=ten"
  int64_t line = 0, column = 0;
};
std::string describe(const Place& place);  // "recipes/a.yaml:3:29" or "command line: train.steps=ten"

struct YamlEntry;
struct YamlNode {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  Place place;
  std::string text;                // scalar
  bool quoted = false;             // scalar: '...', "...", | or >
  std::vector<YamlNode> items;     // list
  std::vector<YamlEntry> entries;  // map; keys are scalars

  YamlNode* find(std::string_view key);
  const YamlNode* find(std::string_view key) const { return const_cast<YamlNode*>(this)->find(key); }
};
struct YamlEntry {
  YamlNode key, value;
};

struct Problem {
  Place place;
  std::string text;
};

// Problems that leave a tree to walk (duplicate keys) are added to `problems`; those that do not throw
// RecipeError.
YamlNode parse_yaml(std::string_view text, const std::string& source, std::vector<Problem>& problems);

// Sets `path` (train.steps, data.sources.0.path) in the tree, creating sections that are absent. A value that
// starts with one of [ { " ' is read as YAML, anything else is taken as it stands. Keys in braces are set
// beside those that the section has; {} empties it. Throws RecipeError when `assignment` has no '='.
void override_yaml(YamlNode& root, const std::string& assignment, std::vector<Problem>& problems);

}  // namespace retort
