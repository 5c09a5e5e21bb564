// What `retort run` does, for other commands that end in a run.
#pragma once
#include "base/error.h"
#include "recipe/recipe.h"

namespace retort {

// From base weights to checked, quantized files, as far as it is not done yet; prints the tables.
Exit run_recipe(LoadedRecipe recipe, bool profile);

}  // namespace retort
