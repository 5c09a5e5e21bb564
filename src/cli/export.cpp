// `retort export RECIPE`: writes, reopens and compares the artefacts of a run that is trained.
// `retort export --model M --adapter A`: those of a model and its adapters, without a run.
#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/export_adapter.h"
#include "cli/recipe_option.h"
#include "cli/spec_options.h"
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
  auto* command = app.add_subcommand(
      "export", "Only write and check exports: of a trained run, or of a model with adapters");
  auto recipe = std::make_shared<RecipeOptions>();
  command->add_option("recipe", recipe->file, "the recipe of a run that is trained; or give --model");
  command->add_option("overrides", recipe->overrides, "keys of the recipe to set, e.g. export.merged=f16");
  auto options = std::make_shared<AdapterExport>();
  options->exports.adapter = false;  // only what is asked for
  options->exports.merged = "none";
  options->exports.gguf.clear();
  command->add_option("-m,--model", options->model.path,
                      "model folder or .gguf file that is written, with its adapters merged into it");
  options->adapters = add_adapter_option(*command);
  command->add_option("-o,--output", options->output, "folder that is written; it must not be there");
  command->add_flag("--peft", options->exports.adapter,
                    "write the adapter as a PEFT folder; of several one whose ranks are the sums of theirs");
  add_spec_options(*command, options->exports, {"adapter", "compare_samples"});
  command->add_option("--template", options->chat_template,
                      "chat template that the files name; auto: the model's own");
  command->add_option("--threads", options->threads, "worker threads; 0 = as many as the machine has")
      ->check(CLI::Range(int64_t{0}, int64_t{4096}));
  command->add_flag("!--no-compare", options->compare,
                    "do not open what was written and compare it over texts that the model writes");
  add_spec_options(*command, options->model, {"path"});
  command->callback([recipe, options, &action] {
    action = [recipe, options] {
      if (options->model.path.empty()) {
        if (!options->adapters->empty() || !options->output.empty())
          throw RecipeError("--model: missing; --adapter and --output go with it");
        if (recipe->file.empty())
          throw RecipeError(
              "expected a recipe, or --model with what is written; `retort export --help` shows "
              "what it takes");
        return export_run(recipe->load());
      }
      if (!recipe->file.empty())
        throw RecipeError("--model: a recipe does not go with it; its export section is written by options");
      return export_adapters(*options);
    };
  });
}

}  // namespace retort
