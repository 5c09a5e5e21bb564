// `retort prune RECIPE FOLDER`: cuts the recipe's model to the student that its prune section describes, as a
// model folder.
#include <fmt/core.h>

#include "base/files.h"
#include "base/json.h"
#include "cli/commands.h"
#include "data/token_store.h"
#include "export/artefacts.h"
#include "models/own_templates.h"
#include "ops/workers.h"
#include "recipe/recipe.h"
#include "student/prune.h"

namespace retort {

namespace {

struct PruneOptions {
  std::string file, folder, type = "bf16";
  std::vector<std::string> overrides;
};

int64_t parameters(const Model& model) {
  int64_t sum = model.embedding.weight.rows * model.embedding.weight.columns;
  for (const auto* linear : model.linears()) sum += linear->weight.rows * linear->weight.columns;
  for (const auto& [name, tensor, place] : model.vectors()) sum += tensor->numel();
  return model.config.tied_head ? sum
                                : sum + model.head.linear.weight.rows * model.head.linear.weight.columns;
}

Exit prune_by_recipe(const PruneOptions& options) {
  const auto loaded = load_recipe(options.file, options.overrides);
  const auto& recipe = loaded.recipe;
  if (!recipe.prune)
    throw RecipeError(
        fmt::format("{}: prune: missing; expected a section that says what is kept", loaded.file));
  if (std::filesystem::exists(options.folder) && !std::filesystem::is_empty(options.folder))
    throw RecipeError(
        fmt::format("{}: is there already; name a folder that is not", printable(options.folder)));
  auto source = load_model(recipe.model);
  source.sha256.begin();
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), own_templates(source), *source.tokenizer);
  const auto dataset = load_dataset(recipe.data, *source.tokenizer, chat, nullptr, recipe.train.threads);
  const auto threads = usable_threads(recipe.train.threads);
  auto pruned = prune(source, compute_type(recipe.model), *recipe.prune, dataset.train, threads);
  const auto before = parameters(*source.model), after = parameters(*pruned.model.model);
  const auto type = options.type == "f32"   ? WeightType::f32
                    : options.type == "f16" ? WeightType::f16
                                            : WeightType::bf16;
  const auto artefact = write_hf_folder(options.folder, pruned.model, type, uint64_t{4096} << 20, threads);
  Json record = {{"source", source.path.string()},
                 {"source_sha256", source.sha256.get()},
                 {"parameters", after},
                 {"source_parameters", before},
                 {"kept", pruned.kept}};
  write_text(std::filesystem::path(options.folder) / "prune.json", record.dump(2) + "\n");
  for (const auto& line : pruned.kept) fmt::print("kept      {}\n", line);
  fmt::print("{:<9} {} parameters of {} ({:.1f} %), {}\n", "student", after, before,
             100.0 * static_cast<double>(after) / static_cast<double>(before), bytes(artefact.bytes));
  fmt::print("{:<9} {}\n", "folder", options.folder);
  return Exit::done;
}

}  // namespace

void add_prune(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("prune", "Cut a recipe's model to a smaller one and write it as a model folder");
  auto options = std::make_shared<PruneOptions>();
  command->add_option("recipe", options->file, "the recipe; its prune section says what is kept")->required();
  command->add_option("folder", options->folder, "where the student is written")->required();
  command->add_option("overrides", options->overrides, "keys of the recipe to set, e.g. prune.layers=15");
  command->add_option("--type", options->type, "of the written weights: f32, f16 or bf16")
      ->check(CLI::IsMember({"f32", "f16", "bf16"}));
  command->callback([options, &action] { action = [options] { return prune_by_recipe(*options); }; });
}

}  // namespace retort
