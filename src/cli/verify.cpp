// `retort verify RUN`: is everything as the run left it, and do its steps come out the same again?
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <random>

#include "base/terminal.h"
#include "cli/commands.h"
#include "report/manifest.h"
#include "run/replay.h"

namespace retort {

namespace {

struct Options {
  std::string folder, noted;
  int64_t replay = 0, seed = -1;  // steps to compute again; -1: a random seed
};

bool is_hash(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

void require_noted(const Options& options) {
  if (!is_hash(options.noted))
    throw RecipeError(
        fmt::format("--noted: expected the sha256 of an entry, 64 digits of 0-9 and a-f, found '{}'",
                    printable(options.noted)));
  const auto entries = read_ledger(options.folder);
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const LedgerEntry& entry) { return entry.sha256 == options.noted; });
  if (found == entries.end())
    throw FormatError(fmt::format(
        "{}: {}: no entry has the sha256 {} that was noted; the ledger was written anew since, or "
        "it is another run's",
        printable(options.folder), kLedgerFile, options.noted));
  fmt::print("{}: the noted entry is there: number {} of {}\n", printable(options.folder), found->number,
             entries.size());
}

// "1 to 12, 301 to 308"
std::string steps_of(const ReplayPlan& plan) {
  std::string text;
  for (const auto& [from, length, chosen] : plan.stretches) {
    if (chosen == 0) continue;
    if (!text.empty()) text += ", ";
    text += chosen == 1 ? fmt::format("{}", from + 1) : fmt::format("{} to {}", from + 1, from + chosen);
  }
  return text;
}

// "step 4", "steps 4, 6"
std::string listed(const std::vector<int64_t>& steps) {
  return fmt::format("step{} {}", steps.size() == 1 ? "" : "s", fmt::join(steps, ", "));
}

// Where a replay can begin.
std::string begins_of(const ReplayPlan& plan) {
  std::vector<int64_t> kept;
  bool base = false;
  for (const auto& stretch : plan.stretches)
    if (stretch.from == 0) base = true;
    else kept.push_back(stretch.from);
  if (kept.empty()) return "step 0 (the base); no checkpoint but the last is kept";
  return fmt::format("{}the kept checkpoint{} of {}", base ? "step 0 (the base) and " : "",
                     kept.size() == 1 ? "" : "s", listed(kept));
}

void replay_steps(const Options& options) {
  const auto seed = options.seed >= 0 ? static_cast<uint64_t>(options.seed) : std::random_device()();
  const auto plan = plan_replay(options.folder, options.replay, seed);
  fmt::print("replay: {} of {} steps, chosen with --seed {}: {}\n", plan.chosen(), plan.steps, seed,
             steps_of(plan));
  fmt::print("replay: begins behind {}\n", begins_of(plan));
  std::fflush(stdout);
  const auto result = replay(plan);
  const auto elsewhere =
      result.elsewhere.empty()
          ? ""
          : fmt::format("; this machine or program is another one ({})", harmless(result.elsewhere));
  if (result.differs)
    throw FormatError(fmt::format("{}: replay: step {} is the first that differs, {} computed: {}{}",
                                  printable(options.folder), *result.differs, result.computed, result.what,
                                  elsewhere));
  fmt::print("replay: {} step{} computed, every bit equal: samples, loss, gradient norm, learning rate{}\n",
             result.computed, result.computed == 1 ? "" : "s", elsewhere);
  if (!result.batches.empty())
    fmt::print("replay: equal after {}: the hash of all samples so far\n", listed(result.batches));
  if (!result.weights.empty())
    fmt::print("replay: equal after {}: the weights, byte for byte\n", listed(result.weights));
  else fmt::print("replay: no checkpoint was made after any of these steps: weights were not compared\n");
  if (result.evaluations > 0)
    fmt::print("replay: {} held-out losses on the way are equal\n", result.evaluations);
}

Exit verify(const Options& options) {
  const auto& folder = options.folder;
  const auto manifest = read_manifest(folder);
  const auto differences = verify_manifest(folder);
  for (const auto& difference : differences)
    fmt::print("{}: {}\n", printable(difference.path), difference.what);
  if (!differences.empty()) {
    std::fflush(stdout);
    throw FormatError(fmt::format("{}: {} differences from what the run recorded of {} files and its ledger",
                                  printable(folder), differences.size(),
                                  manifest.read.size() + manifest.written.size()));
  }
  if (!options.noted.empty()) require_noted(options);
  fmt::print("{}: {} files read and {} files written are as recorded\n", printable(folder),
             manifest.read.size(), manifest.written.size());
  if (manifest.ledger)
    fmt::print("{}: {} entries, each with the hash of the one before; the last has sha256 {}\n", kLedgerFile,
               manifest.ledger->entries, manifest.ledger->sha256);
  else fmt::print("there is no ledger: an earlier version of retort made this run\n");
  for (const auto& signature : signatures_inside(folder))
    fmt::print("{}: a signature, not looked at here: `retort-sign verify` says whether it holds\n",
               printable(signature.string()));
  if (options.replay > 0) replay_steps(options);
  return Exit::done;
}

}  // namespace

void add_verify(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "verify", "Compare every file of a run with the hashes in its manifest, and its ledger with itself");
  auto options = std::make_shared<Options>();
  command->add_option("run", options->folder, "the run's folder, e.g. runs/medical-icd10-qlora")->required();
  command->add_option("--noted", options->noted,
                      "the sha256 of a ledger entry that was noted elsewhere: it must still be there");
  auto* steps =
      command
          ->add_option(
              "--replay", options->replay,
              "compute so many steps of the training again, from its base and its kept checkpoints, and "
              "compare every bit with the record; nothing is written into the run's folder")
          ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
  command
      ->add_option("--seed", options->seed, "of the choice of steps; a random one, which is told, otherwise")
      ->needs(steps)
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 62));
  command->callback([options, &action] { action = [options] { return verify(*options); }; });
}

}  // namespace retort
