// `retort prove RECIPE [key=value ...]`: a run, watched from outside, and what it did with network, files and
// texts.
#include <fmt/core.h>

#include <algorithm>

#include "base/json.h"
#include "base/scratch_folder.h"
#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "run/prove.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

void list(const char* what, const std::vector<std::string>& paths) {
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(paths.size(), kShown); ++i)
    fmt::print("{:<8} {}\n", what, harmless(paths[i]));
  if (paths.size() > kShown) fmt::print("{:<8} and {} more\n", what, paths.size() - kShown);
}

// A run that is there already would find everything done.
void require_new(const fs::path& folder) {
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw RecipeError(fmt::format(
        "run.folder: {}: is there already; a run is watched from its beginning: name a new folder",
        printable(folder.string())));
}

Exit prove_recipe(const RecipeOptions& options) {
  auto settings = options.overrides;
  std::optional<ScratchFolder> scratch;
  const bool stays = std::any_of(settings.begin(), settings.end(),
                                 [](const auto& setting) { return setting.starts_with("run.folder="); });
  if (!stays) {
    scratch.emplace("retort-prove");
    settings.push_back("run.folder=" + Json((scratch->path() / "run").string()).dump());
  }
  ProofJob job{load_recipe(options.file, settings), {"run", options.file}};
  job.arguments.insert(job.arguments.end(), settings.begin(), settings.end());
  require_new(job.recipe.recipe.run.folder);
  const auto proof = prove(job);
  fmt::print("\n");
  list("read", proof.read);
  list("written", proof.written);
  for (const auto& [holds, what, detail] : proof.facts)
    fmt::print("{:<8} {}{}{}\n", holds ? "ok" : "FAIL", what, detail.empty() ? "" : ": ", harmless(detail));
  const auto failed = std::count_if(proof.facts.begin(), proof.facts.end(),
                                    [](const Proof::Fact& fact) { return !fact.holds; });
  if (failed == 0) fmt::print("all of it holds\n");
  else fmt::print("{} of {} do not hold\n", failed, proof.facts.size());
  if (stays) fmt::print("the run stays in {}\n", harmless(job.recipe.recipe.run.folder));
  return proof.holds() ? Exit::done : Exit::gate_failed;
}

}  // namespace

void add_prove(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "prove",
      "Run a recipe under strace, without a network, and say what it opened, wrote, started and left");
  auto options = add_recipe_options(*command);
  command->footer("The run's folder is a temporary one unless run.folder=FOLDER says where it stays.");
  command->callback([options, &action] { action = [options] { return prove_recipe(*options); }; });
}

}  // namespace retort
