// `retort-ranks teach RECIPE`: ranks fill the cache of a teacher together.
#pragma once
#include "base/error.h"
#include "base/peers.h"
#include "recipe/recipe.h"

namespace retort {

// Rank 0 writes the cache that `retort teach` would write, byte for byte, and prints a line about it.
Exit lead_teaching(LoadedRecipe loaded, Peers& peers);
// The others read their part of the samples, and write nothing.
void follow_teaching(LoadedRecipe loaded, Peers& peers);

}  // namespace retort
