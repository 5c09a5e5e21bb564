// `retort forget LIST RECIPE`: records that a recipe uses no more, and what has to be trained again.
#include <fmt/core.h>

#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "run/forget.h"

namespace retort {

namespace {

struct Options {
  std::string list;
  std::shared_ptr<RecipeOptions> recipe;
  bool remove = false;
};

Exit forget(const Options& options) {
  const auto loaded = options.recipe->load();
  const auto& data = loaded.recipe.data;
  if (data.forget.empty())
    throw RecipeError(fmt::format(
        "{}: data.forget: missing; name the file that keeps the hashes of records which are not used, e.g. "
        "data: {{forget: forgotten.txt}}",
        printable(loaded.file)));
  const auto hashes = read_forget_list(options.list);
  if (hashes.empty())
    throw RecipeError(
        fmt::format("{}: holds no hash of a record; `retort trace FILE RUN --hashes` prints them",
                    printable(options.list)));
  const auto fresh = add_to_forget_list(data.forget, hashes);
  fmt::print("{}: {} of {} hashes are new; no record of them is used from now on, on neither side\n",
             harmless(data.forget), fresh, hashes.size());
  const auto& folder = loaded.recipe.run.folder;
  const auto found = forget_in_run(loaded, hashes, options.remove);
  const auto name = harmless(folder);
  if (found.records.empty()) {
    fmt::print("{}: none of its samples is among them; nothing has to be trained again\n", name);
    return Exit::done;
  }
  fmt::print("{}: learned {} of them and was measured on {}; its ledger says that they are to be forgotten\n",
             name, found.learned, found.held_out);
  if (options.remove)
    fmt::print("{}: {} files removed: what was made of them\nretort run {} trains again without them\n", name,
               found.removed.size(), harmless(loaded.file));
  else
    fmt::print(
        "what holds them still: `retort trace`; `retort forget --remove` removes it. Without: retort run "
        "{} run.folder=NEW trains again without them\n",
        harmless(loaded.file));
  if (!data.cache.empty()) fmt::print("{} holds its samples as token ids: remove it\n", harmless(data.cache));
  fmt::print(
      "The sources of the recipe still hold the records themselves, and exports that were copied "
      "elsewhere are as they were.\n");
  return Exit::done;
}

}  // namespace

void add_forget(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "forget", "Leave records out of a recipe from now on, by hash, and say what has to be trained again");
  auto options = std::make_shared<Options>();
  command->add_option("list", options->list, "a file of hashes, one a line (retort trace ... --hashes)")
      ->required();
  options->recipe = add_recipe_options(*command);
  command->add_flag("--remove", options->remove,
                    "remove weights, token ids, answers and report of the recipe's run that met them");
  command->callback([options, &action] { action = [options] { return forget(*options); }; });
}

}  // namespace retort
