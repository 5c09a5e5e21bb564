// `retort teach RECIPE`: asks the teacher about the training samples and keeps what it says.
#include <fmt/core.h>

#include "cli/commands.h"
#include "data/token_store.h"
#include "models/own_templates.h"
#include "ops/device.h"
#include "run/open_teacher.h"
#include "run/stage_distill.h"

namespace retort {

namespace {

struct TeachOptions {
  std::string file, shard = "1/1";
  std::vector<std::string> overrides;
};

Exit teach_by_recipe(const TeachOptions& options) {
  const auto loaded = load_recipe(options.file, options.overrides);
  const auto& recipe = loaded.recipe;
  int64_t shard = 0, shards = 0;
  if (std::sscanf(options.shard.c_str(), "%ld/%ld", &shard, &shards) != 2 || shard < 1 || shard > shards)
    throw RecipeError(
        fmt::format("--shard: expected I/N with I from 1 to N, found '{}'", printable(options.shard)));
  if (!recipe.teacher)
    throw RecipeError(
        fmt::format("{}: teacher: missing; expected a section that names the teacher", loaded.file));
  if (recipe.teacher->live)
    throw RecipeError(
        fmt::format("{}: teacher.live: this teacher is asked while training; set it to false to keep a cache",
                    loaded.file));
  open_device(recipe.device, recipe.device_memory);  // what is missing is told before anything is read
  const auto student = load_for_tokens(recipe);
  if (recipe.teacher->answers) {
    fmt::print("{}\n", collect_answers(recipe, *student.tokenizer));
    return Exit::done;
  }
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(student), *student.tokenizer);
  const auto dataset = load_dataset(recipe.data, *student.tokenizer, chat, nullptr, recipe.train.threads);
  TeacherOfRun teacher(recipe, *student.tokenizer, chat, dataset.train);
  const auto cache = teacher.complete(shard - 1, shards);
  fmt::print("{}\n", cache);
  return Exit::done;
}

}  // namespace

void add_teach(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("teach", "Build or complete a recipe's teacher cache");
  auto options = std::make_shared<TeachOptions>();
  command->add_option("recipe", options->file, "the recipe, e.g. recipes/distill-licence-review.yaml")
      ->required();
  command->add_option("overrides", options->overrides, "keys of the recipe to set, e.g. teacher.keep.head=8");
  command->add_option(
      "--shard", options->shard,
      "I/N: make every Nth part of the cache, starting with the Ith; N processes share the work");
  command->callback([options, &action] { action = [options] { return teach_by_recipe(*options); }; });
}

}  // namespace retort
