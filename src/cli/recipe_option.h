// RECIPE [key=value ...], as several commands take it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "recipe/recipe.h"

namespace retort {

struct RecipeOptions {
  std::string file;
  std::vector<std::string> overrides;
  LoadedRecipe load() const { return load_recipe(file, overrides); }
};

inline std::shared_ptr<RecipeOptions> add_recipe_options(CLI::App& command) {
  auto options = std::make_shared<RecipeOptions>();
  command.add_option("recipe", options->file, "the recipe, e.g. recipes/medical-icd10-qlora.yaml")
      ->required();
  command.add_option("overrides", options->overrides, "keys of the recipe to set, e.g. train.steps=40");
  return options;
}

}  // namespace retort
