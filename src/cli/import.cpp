// `retort-import RECIPE [FOLDER]`: fills a recipe's teacher cache from a folder that DistillKit wrote. The
// only program that reads Parquet files; what it keeps is read by `retort`.
#include <fmt/core.h>

#include "cli/commands.h"
#include "data/token_store.h"
#include "models/own_templates.h"
#include "run/open_teacher.h"
#include "run/stage_distill.h"

namespace retort {

namespace {

struct ImportOptions {
  std::string file;
  std::vector<std::string> others;
};

// KEY.PATH=VALUE, as opposed to a folder.
bool is_override(const std::string& argument) {
  const auto key = argument.substr(0, argument.find('='));
  return key.size() < argument.size() &&
         key.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_.") == std::string::npos;
}

Exit import_by_recipe(const ImportOptions& options) {
  std::vector<std::string> overrides;
  std::string folder;
  for (const auto& argument : options.others) {
    if (is_override(argument)) overrides.push_back(argument);
    else if (folder.empty()) folder = argument;
    else
      throw RecipeError(fmt::format("{}: one folder is imported at a time, {} is named already",
                                    printable(argument), printable(folder)));
  }
  if (!folder.empty()) overrides.push_back("teacher.distillkit=" + folder);
  const auto loaded = load_recipe(options.file, overrides);
  const auto& recipe = loaded.recipe;
  if (!recipe.teacher || recipe.teacher->distillkit.empty())
    throw RecipeError(fmt::format(
        "{}: teacher.distillkit: missing; expected the folder that DistillKit wrote", loaded.file));
  const auto student = load_for_tokens(recipe);
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(student), *student.tokenizer);
  const auto dataset = load_dataset(recipe.data, *student.tokenizer, chat, nullptr, recipe.train.threads);
  TeacherOfRun teacher(recipe, *student.tokenizer, chat, dataset.train);
  const StudentTokens tokens{student.tokenizer->usable_ids(), student.model->config.vocabulary};
  fmt::print("{}\n",
             teacher.import_texts([&] { return open_distillkit(recipe.teacher->distillkit, tokens); }));
  return Exit::done;
}

}  // namespace

std::unique_ptr<CLI::App> make_program(Action& action) {
  auto app = bare_program("retort-import",
                          "Fills a recipe's teacher cache from log-probabilities that DistillKit kept; "
                          "`retort` trains from it.");
  auto options = std::make_shared<ImportOptions>();
  app->add_option("recipe", options->file, "the recipe, whose teacher.distillkit names the folder")
      ->required();
  app->add_option(
      "others", options->others,
      "the folder where it is another one, and keys of the recipe to set, e.g. teacher.keep.head=8");
  app->callback([options, &action] { action = [options] { return import_by_recipe(*options); }; });
  return app;
}

}  // namespace retort
