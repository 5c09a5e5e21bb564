// `retort demo`: a whole run without network, of the base and the records that lie beside the program.
#include <fmt/core.h>

#include "base/json.h"
#include "cli/beside_program.h"
#include "cli/commands.h"
#include "cli/run_recipe.h"

namespace retort {

namespace {

constexpr const char* kBase = "smollm2-135m-instruct-q4_1.gguf";
constexpr const char* kRecords = "diagnoses.jsonl";

std::string setting(const char* key, const std::filesystem::path& path) {
  return fmt::format("{}={}", key, Json(path.string()).dump());
}

Exit demo(const std::vector<std::string>& overrides) {
  const auto folder = beside_program("demo");
  for (const char* name : {"recipe.yaml", kBase, kRecords})
    if (!std::filesystem::exists(folder / name))
      throw RecipeError(
          fmt::format("{}: missing; the archive named demo brings it (tools/package demo makes that), and "
                      "tools/demo runs a larger example from a clone",
                      printable((folder / name).string())));
  std::vector<std::string> settings = {setting("model.path", folder / kBase),
                                       setting("data.sources.0.path", folder / kRecords)};
  settings.insert(settings.end(), overrides.begin(), overrides.end());
  const auto exit = run_recipe(load_recipe(folder / "recipe.yaml", settings), false);
  fmt::print("\nYour own records next: retort init DATA --model {}\n", (folder / kBase).string());
  return exit;
}

}  // namespace

void add_demo(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "demo", "Fine-tune, score and export a small model that the package brings, without network");
  auto overrides = std::make_shared<std::vector<std::string>>();
  command->add_option("overrides", *overrides, "keys of the recipe to set, e.g. train.steps=40");
  command->callback([overrides, &action] { action = [overrides] { return demo(*overrides); }; });
}

}  // namespace retort
