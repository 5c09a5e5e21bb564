// A run that several ranks share: rank 0 makes it, the others compute their part of its training.
#pragma once
#include "recipe/recipe.h"
#include "train/peers.h"

namespace retort {

// RecipeError where ranks cannot divide what the recipe asks for.
void require_dividable(const LoadedRecipe& loaded);

// What a rank other than 0 does, until rank 0 has called end_run(). It keeps its samples in a folder of its
// own beside that of the run (folder_of_rank in run_folder.h), which is removed at the end.
void follow_run(LoadedRecipe loaded, Peers& peers);

// Rank 0's words to the others: compute with me; that was all.
void begin_training(Peers& peers);
void end_run(Peers& peers);

}  // namespace retort
