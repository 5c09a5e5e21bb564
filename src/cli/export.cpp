// `retort export RECIPE`: writes, reopens and compares the artefacts of a run that is trained.
#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "run/run_result.h"

namespace retort {

namespace {

Exit export_run(LoadedRecipe recipe) {
  Run run(std::move(recipe));
  RunResult result;
  result.training = trained_model(run);
  result.exports = export_models(run, result.training, result.failures);
  close_run(run);
  RunRecord record;
  std::vector<const ModelResult*> models;
  for (const auto& model : result.exports) models.push_back(&model);
  add_models(record, models, {});
  fmt::print("{}", table_text(results_table(record)));
  for (const auto& model : result.exports)
    fmt::print("{:<9} {}\n", model.artefact->kind, (run.folder() / model.name).string());
  throw_own_mistakes(result);
  return exit_of(result.failures, Exit::done);
}

}  // namespace

void add_export(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand("export", "Only write and check the exports of a trained run");
  auto options = add_recipe_options(*command);
  command->callback([options, &action] { action = [options] { return export_run(options->load()); }; });
}

}  // namespace retort
