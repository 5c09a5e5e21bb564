// A run that several ranks share: rank 0 makes it, the others compute their part of what it asks for.
#pragma once
#include <cstdint>

#include "base/peers.h"
#include "recipe/recipe.h"

namespace retort {

class Run;  // run/open_run.h

// RecipeError where ranks cannot divide what the recipe asks for.
void require_dividable(const LoadedRecipe& loaded);
// The same of the teacher alone.
void require_dividable_teacher(const LoadedRecipe& loaded);

// What a rank other than 0 does, until rank 0 has called end_run(). It keeps its samples, and a copy of what
// the teacher said, in a folder of its own beside that of the run (folder_of_rank in run_folder.h), which is
// removed at the end.
void follow_run(LoadedRecipe loaded, Peers& peers);

// Rank 0's words to the others: train with me; take what was trained; that was all.
void begin_training(Run& run);
void give_weights(Run& run);
void end_run(Peers& peers);

}  // namespace retort
