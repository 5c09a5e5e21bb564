// `retort samples RECIPE`: every record with its side of the split, its group and how often it is used.
#include <fmt/core.h>

#include <filesystem>

#include "base/tell.h"
#include "base/terminal.h"
#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "data/canaries.h"
#include "data/record_list.h"

namespace retort {
namespace {

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

struct Options {
  std::shared_ptr<RecipeOptions> recipe;
  bool csv = false;
};

Exit samples(const Options& options) {
  auto given = *options.recipe;
  if (std::filesystem::is_directory(given.file))  // a run keeps its recipe
    given.file = (std::filesystem::path(given.file) / "recipe.yaml").string();
  const auto loaded = given.load();
  const auto& data = loaded.recipe.data;
  const SourceFiles files(data.sources, loaded.recipe.train.threads);
  const auto plan = plan_records(data, files);
  // What a place, a group or a path holds comes from the data: nothing of it may drive the terminal.
  if (options.csv) fmt::print("place,source,side,group,uses_in_an_epoch\n");
  else fmt::print("{:<40} {:>6} {:<8} {:>4}  {}\n", "place", "source", "side", "uses", "group");
  files.pass(nullptr, [&](int64_t number, const Record& record) -> RecordSource::Later {
    return [&, number, place = record.place, group = record.group, source = record.source] {
      const auto row = static_cast<size_t>(number) < plan.rows.size() ? plan.rows[static_cast<size_t>(number)]
                                                                      : PlannedRow{};
      const auto uses = row.side == Side::train ? row.copies : 0;
      if (options.csv)
        fmt::print("{},{},{},{},{}\n", quoted(harmless(place)), source, side_of(row), quoted(harmless(group)),
                   uses);
      else
        fmt::print("{:<40} {:>6} {:<8} {:>4}  {}\n", harmless(place), source, side_of(row), uses,
                   harmless(group));
    };
  });
  for (const auto& canary : make_canaries(data.canaries).planted)
    if (options.csv) fmt::print("{},canary,train,,{}\n", canary.place, data.canaries.times);
    else fmt::print("{:<40} {:>6} {:<8} {:>4}\n", canary.place, "canary", "train", data.canaries.times);
  for (const auto& bad : plan.bad) tell(harmless(describe(bad)));
  return Exit::done;
}

}  // namespace

void add_samples(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "samples",
      "List every record of a recipe or a run: its side of the split, its group, how often it is used");
  auto options = std::make_shared<Options>();
  options->recipe = add_recipe_options(*command);
  command->add_flag("--csv", options->csv, "as CSV");
  command->callback([options, &action] { action = [options] { return samples(*options); }; });
}

}  // namespace retort
