// What `retort run` does, for other commands that end in a run.
#pragma once
#include "base/error.h"
#include "recipe/recipe.h"

namespace retort {

class Peers;  // base/peers.h

// From base weights to checked, quantized files, as far as it is not done yet; prints the tables. `peers`
// compute the training with this process; the rest is its own.
Exit run_recipe(LoadedRecipe recipe, bool profile, Peers* peers = nullptr);

}  // namespace retort
