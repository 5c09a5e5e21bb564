// What can be written in a recipe, from the same field lists that parse it: `retort explain`,
// docs/recipe-reference.md and the JSON Schema for editors.
#pragma once
#include <string>
#include <vector>

#include "base/json.h"

namespace retort {

struct Key {
  std::string path = {};  // train.optimizer.learning_rate, data.sources[].path
  bool section = false;   // has keys of its own
  bool optional = false;  // a section that is absent unless it is written
  bool list = false;      // a list of sections
  bool required = false;
  std::string expected = {};  // "a number above 0"; empty for sections
  std::string standard = {};  // the default as YAML; empty for sections and required keys
  std::string documentation = {};
  std::vector<std::string> words = {};  // all that it may be, where that is one of a few words
};

const std::vector<Key>& recipe_keys();

// The documentation of KEY and of what is inside it; of everything when empty. Of words that are no key: what
// they are in recipes of other tools, and the keys with them in their names or descriptions. RecipeError with
// a suggestion where there is nothing.
std::string explain(const std::string& key);

std::string recipe_reference();  // markdown
OrderedJson recipe_schema();     // JSON Schema, draft 2020-12

}  // namespace retort
