// `retort train RECIPE`: the training of a run and nothing after it.
#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "run/profile_report.h"
#include "run/run_result.h"

namespace retort {

namespace {

Exit train(LoadedRecipe recipe, bool profile) {
  if (profile) start_profile();
  Run run(std::move(recipe));
  prepare_samples(run);
  const auto training = train_model(run, 0);
  if (profile) report_profile(run);
  close_run(run);
  if (training.startup_seconds > 0)
    fmt::print("from the command to the first step: {:.2f} s\n", training.startup_seconds);
  fmt::print("{}: {}\n", run.folder().string(), training.line.what);
  return Exit::done;
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("train", "Only train by a recipe, or continue training");
  auto options = add_recipe_options(*command);
  auto profile = std::make_shared<bool>(false);
  command->add_flag("--profile", *profile,
                    "write a Chrome trace (profile.json) and tell what each operation costs, against the "
                    "machine's measured peak");
  command->callback([=, &action] { action = [=] { return train(options->load(), *profile); }; });
}

}  // namespace retort
