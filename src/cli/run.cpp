// `retort run RECIPE [key=value ...]`: from base weights to checked, quantized files, as far as it is not
// done yet.
#include <fmt/core.h>

#include "cli/commands.h"
#include "cli/recipe_option.h"
#include "cli/run_recipe.h"
#include "run/bom_completeness.h"
#include "run/model_card.h"
#include "run/profile_report.h"
#include "run/run_result.h"

namespace retort {

namespace {

OrderedJson how_it_ended(const RunResult& result, const RunRecord& record) {
  auto gates = OrderedJson::array(), failures = OrderedJson::array();
  for (const auto& [line, passed] : record.gates) gates.push_back({{"gate", line}, {"passed", passed}});
  for (const auto& failure : result.failures) failures.push_back(failure.stage);
  return {{"gates", gates}, {"failures", failures}};
}

}  // namespace

Exit run_recipe(LoadedRecipe recipe, bool profile, Peers* peers) {
  if (profile) start_profile();
  Run run(std::move(recipe), peers);
  RunResult result;
  result.samples = prepare_samples(run);
  const auto before = run.seconds_since_start();
  result.base = evaluate_base(run);
  result.training = train_model(run, run.seconds_since_start() - before);
  // What is trained is there: whatever fails from here on, the report is written with what there is.
  auto& failures = result.failures;
  attempt(run, "evaluate tuned", failures, [&] { result.tuned = evaluate_tuned(run, result.training); });
  attempt(run, "experts", failures, [&] { result.experts = measure_experts(run, result.training); });
  result.exports = export_models(run, result.training, failures);
  attempt(run, "compare with teacher", failures,
          [&] { result.distill = compare_with_teacher(run, result.training, result.base, result.tuned); });
  const auto record = write_report(run, result);
  write_cards(run, result, record);
  if (profile) report_profile(run);
  const auto ledger = close_run(run, how_it_ended(result, record));

  fmt::print("{}\n", table_text(results_table(record)));
  for (const auto& table : record.tables) fmt::print("{}\n{}\n", table.title, table_text(table));
  bool holds = true;
  for (const auto& [line, held] : record.gates) {
    fmt::print("gate: {}: {}\n", line, held ? "passed" : "failed");
    holds = holds && held;
  }
  if (result.training.startup_seconds > 0)
    fmt::print("from the command to the first step: {:.2f} s\n", result.training.startup_seconds);
  fmt::print("report    {}\nmanifest  {}\n", (run.folder() / "report.html").string(),
             (run.folder() / "manifest.json").string());
  fmt::print("dossier   {}\n", (run.folder() / "dossier.html").string());
  fmt::print("ledger    {}: {} entries, sha256 {}\n", (run.folder() / kLedgerFile).string(), ledger.entries,
             ledger.sha256);
  if (const auto bills = bills_line(counted_bills(run.folder())); !bills.empty())
    fmt::print("bills     {}\n", bills);
  for (const auto& model : result.exports)
    fmt::print("{:<9} {}\n", model.artefact->kind, (run.folder() / model.name).string());
  throw_own_mistakes(result);
  return exit_of(failures, holds ? Exit::done : Exit::gate_failed);
}

void add_run(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "run", "Train, evaluate and export by a recipe; continues what an earlier run of it left");
  auto options = add_recipe_options(*command);
  auto profile = std::make_shared<bool>(false);
  command->add_flag("--profile", *profile,
                    "write a Chrome trace (profile.json) and tell what each operation costs, against the "
                    "machine's measured peak");
  command->callback([=, &action] { action = [=] { return run_recipe(options->load(), *profile); }; });
}

}  // namespace retort
