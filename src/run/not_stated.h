// What somebody who audits a run will ask for and its recipe does not say. It stands in report and dossier,
// so that what is missing is seen there, where it is missed.
#pragma once
#include <string>
#include <vector>

#include "recipe/recipe.h"
#include "report/page.h"

namespace retort {

struct RecipeGap {
  std::string key;   // "card.supplier.name"
  std::string what;  // what belongs there
};
struct StatedKeys {
  int64_t asked = 0;  // keys that were looked at
  std::vector<RecipeGap> empty;
};

// Every key of `card`, what the run is for, what it measured, and the bounds that it had to hold.
StatedKeys stated_keys(const Recipe& recipe);
Table not_stated_table(const Recipe& recipe);

}  // namespace retort
