// `retort eval RECIPE`: the tasks of a recipe on its base and its tuned model, or on any model and adapter.
#include <fmt/core.h>

#include "base/files.h"
#include "base/tell.h"
#include "cli/adapter_option.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "data/token_store.h"
#include "eval/answer_cost.h"
#include "models/own_templates.h"
#include "ops/device.h"
#include "run/memorization_table.h"
#include "run/run_result.h"
#include "run/score_tables.h"

namespace retort {

namespace {

struct Options {
  AdapterOptions adapters;
  std::string model, json;
};

Exit saved(const std::vector<const ModelResult*>& models, const std::string& json) {
  if (!json.empty()) {
    auto all = Json::object();
    for (const auto* model : models) all[model->name] = file_of_tasks(model->tasks);
    write_text(json, all.dump(1) + "\n");
  }
  return Exit::done;
}

// `folder`: of the run that these are of, or empty.
Exit print(const Recipe& recipe, const std::vector<const ModelResult*>& measured, const ModelSizes& sizes,
           const std::string& json, const std::filesystem::path& folder) {
  std::vector<ModelResult> shown;  // as the run's files would hold them
  for (const auto* model : measured) {
    shown.push_back(*model);
    shown.back().tasks = to_keep(recipe, model->tasks);
  }
  std::vector<const ModelResult*> models;
  for (const auto& model : shown) models.push_back(&model);
  RunRecord record;
  add_models(record, models, sizes);
  fmt::print("{}", table_text(results_table(record)));
  for (const auto* model : models)
    for (const auto& task : model->tasks) {
      fmt::print("\n{}: {} ({} samples)\n", model->name, task.task, task.count);
      for (const auto& [metric, value] : task.metrics) {
        const auto* interval = task.interval(metric);
        fmt::print(
            "  {:<20} {:.6g}{}\n", metric, value,
            interval ? fmt::format("  ({:.6g} to {:.6g} with 95 %)", interval->low, interval->high) : "");
      }
    }
  for (const auto& table : class_tables(models)) fmt::print("\n{}\n{}", table.title, table_text(table));
  for (const auto& table : program_tables(models)) fmt::print("\n{}\n{}", table.title, table_text(table));
  if (const auto table = memorization_table(models); !table.rows.empty())
    fmt::print("\n{}\n{}", table.title, table_text(table));
  if (folder.empty()) return saved(measured, json);
  if (const auto table = difference_table(folder, models); !table.rows.empty())
    fmt::print("\n{}\n{}", table.title, table_text(table));
  return saved(measured, json);
}

// What a run measures, taken from its ledger where it is done.
Exit evaluate_run(LoadedRecipe recipe, const Options& options) {
  Run run(std::move(recipe));
  if (run.recipe().eval.tasks.empty())
    throw RecipeError(
        fmt::format("{}: eval.tasks: missing; expected a list of what to measure", run.loaded().file));
  prepare_samples(run);
  const auto base = evaluate_base(run);
  std::vector<const ModelResult*> models = {&base};
  TrainingResult training;
  ModelResult tuned;
  if (run.trains() && is_trained(run)) {
    training = trained_model(run);
    tuned = evaluate_tuned(run, training);
    models.push_back(&tuned);
  }
  close_run(run);
  return print(run.recipe(), models, sizes_of(run.recipe(), training), options.json, run.folder());
}

// A model that no run made: measured, and nothing is kept but what --json asks for.
Exit evaluate_path(LoadedRecipe loaded, const Options& options) {
  auto& recipe = loaded.recipe;
  if (recipe.eval.tasks.empty())
    throw RecipeError(
        fmt::format("{}: eval.tasks: missing; expected a list of what to measure", loaded.file));
  if (!options.model.empty()) {
    recipe.model.path = options.model;
    recipe.model.weights = "keep";
  }
  recipe.data.cache.clear();  // it may be another tokenizer's
  const auto device = open_device(recipe.device, recipe.device_memory);
  auto model = load_model(recipe.model);
  model.model->compute_on(device);
  load_adapters(model, options.adapters);
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(model), *model.tokenizer);
  const auto dataset = build_dataset(recipe.data, *model.tokenizer, chat);
  const Subject subject{*model.model, *model.tokenizer, &chat, compute_type(recipe.model, device)};
  const auto folder =
      options.json.empty() ? std::filesystem::path(".") : std::filesystem::path(options.json).parent_path();
  if (const auto cost = describe_answers(recipe.eval, subject, recipe.model.path); !cost.empty()) tell(cost);
  ModelResult result;
  result.name = recipe.model.path;
  for (const auto& adapter : *options.adapters) result.name += " + " + adapter;
  result.tasks =
      evaluate(recipe.eval, recipe.data, subject, {dataset.held_out, dataset.held_out_records, dataset.train},
               folder, [](const std::string& task) { tell(fmt::format("evaluating {} ...", task)); });
  return print(recipe, {&result}, {}, options.json, {});
}

}  // namespace

void add_eval(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "eval", "Only evaluate: the base and the tuned model of a recipe, or any model by its tasks");
  auto recipe = add_recipe_options(*command);
  auto options = std::make_shared<Options>();
  command->add_option("--model", options->model, "a model folder or .gguf file instead of the recipe's");
  options->adapters = add_adapter_option(*command);
  command->add_option("--json", options->json, "write every answer to this file");
  command->callback([recipe, options, &action] {
    action = [recipe, options] {
      const bool of_run = options->model.empty() && options->adapters->empty();
      return of_run ? evaluate_run(recipe->load(), *options) : evaluate_path(recipe->load(), *options);
    };
  });
}

}  // namespace retort
