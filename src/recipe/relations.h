// What no single key can say: sections that must fit each other.
#pragma once
#include <vector>

#include "recipe/recipe.h"
#include "spec/yaml.h"

namespace retort {

// Adds a problem, at its place in the file, for every gate without a bound or a measured task, for tasks that
// share a name or lack their file, and for exports that the adapter cannot give.
void check_relations(const Recipe& recipe, const YamlNode& root, std::vector<Problem>& problems);

}  // namespace retort
