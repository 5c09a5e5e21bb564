// `retort trace RECORD RUN...`: which runs met a record, and what holds what they made of it.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include "base/terminal.h"
#include "cli/commands.h"
#include "run/trace.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string what, group;
  std::vector<std::string> runs;
  bool hashes = false;
};

Sought sought_in(const Options& options, const fs::path& run) {
  Sought sought;
  if (!options.group.empty()) sought.group = group_hash(options.group);
  if (options.what.empty()) return sought;
  if (is_record_hash(options.what)) sought.records.emplace(options.what, options.what);
  else if (fs::is_regular_file(options.what)) sought.records = hashes_in_file(options.what, run);
  else if (options.what.find(':') != std::string::npos) sought.place = options.what;
  else
    throw RecipeError(fmt::format(
        "{}: there is no such file; expected a file of records, a place such as data/notes.csv:17, or a "
        "record's hash of 32 digits",
        printable(options.what)));
  return sought;
}

std::string numbers(const std::vector<int64_t>& all, int64_t plus) {
  constexpr size_t kShown = 12;
  std::string text;
  for (size_t i = 0; i < std::min(all.size(), kShown); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : ", ", all[i] + plus);
  if (all.size() > kShown)
    text += fmt::format(" and {} more, the last {}", all.size() - kShown, all.back() + plus);
  return text;
}

std::string what_became_of(const TracedRecord& traced, const Trace& trace) {
  const auto& [record, learned] = traced;
  if (record.side == "left_out") return "read, and used on neither side";
  if (record.side == "held_out") return "held out: measured, never learned";
  if (record.uses == 0) return "on the side of the training, and left out by the weight of its source";
  if (record.samples == 0) return "on the side of the training, and left out as too long";
  if (!learned.steps.empty())
    return fmt::format("learned, {} uses in an epoch: in step{} {} of {}, epoch{} {}", record.uses,
                       learned.steps.size() == 1 ? "" : "s", numbers(learned.steps, 0), trace.steps,
                       learned.epochs.size() == 1 ? "" : "s", numbers(learned.epochs, 1));
  if (trace.rounds) return "to be learned: the model answered its prompt, and learned from these answers";
  if (trace.steps == 0) return "to be learned: no step is made yet";
  return fmt::format("to be learned: in none of the {} steps so far", trace.steps);
}

// How many of the records lines were printed for.
size_t tell_run(const Options& options, const fs::path& run) {
  const auto trace = trace_records(run, sought_in(options, run));
  const auto name = printable(run.string());
  if (options.hashes) {
    for (const auto& [record, learned] : trace.records) fmt::print("{}\n", record.hash);
    return trace.records.size();
  }
  if (trace.records.empty()) {
    fmt::print("{}: not among its {} records\n", name, trace.listed);
    return 0;
  }
  bool learned = false, held_out = false;
  for (const auto& traced : trace.records) {
    fmt::print("{}: {} ({}): {}\n", name, traced.record.hash, harmless(traced.record.place),
               what_became_of(traced, trace));
    learned = learned || !traced.learned.steps.empty() || (trace.rounds && traced.record.uses > 0);
    held_out = held_out || traced.record.side == "held_out";
  }
  const auto list = [&](const char* what, const std::vector<std::string>& files) {
    if (!files.empty())
      fmt::print("{}: {}: {}\n", name, what, harmless(fmt::format("{}", fmt::join(files, ", "))));
  };
  if (learned) list("weights that were trained on it", trace.weights);
  if (learned || held_out) list("holds it as token ids", trace.token_ids);
  if (held_out) list("scored on it", trace.answers);
  else list("its loss was measured (membership)", trace.members);
  return trace.records.size();
}

Exit trace(const Options& options) {
  if (options.what.empty() && options.group.empty())
    throw RecipeError("retort trace: expected a record to look for, or --group TEXT");
  std::vector<fs::path> met;
  for (const auto& run : options.runs)
    if (tell_run(options, run) > 0) met.emplace_back(run);
  if (options.hashes) return Exit::done;
  for (const auto& run : options.runs)
    for (const auto& from : met) {
      if (fs::equivalent(run, from)) continue;
      for (const auto& file : read_from(run, from))
        fmt::print("{}: read {}, which {} wrote\n", printable(run), harmless(file), printable(from.string()));
    }
  return Exit::done;
}

}  // namespace

void add_trace(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "trace", "Which runs met a record: side, steps, epochs, exports; by hash, no text is stored");
  auto options = std::make_shared<Options>();
  auto arguments = std::make_shared<std::vector<std::string>>();
  command
      ->add_option(
          "what", *arguments,
          "a file of records, a place (data/notes.csv:17) or a record's hash, unless --group is given; "
          "then the folders of runs")
      ->required();
  command->add_option("--group", options->group, "all records of this group, e.g. a patient's number");
  command->add_flag("--hashes", options->hashes,
                    "only the hashes of the records that were found, one a line");
  command->callback([options, arguments, &action] {
    action = [options, arguments] {
      auto given = *options;
      given.runs = *arguments;
      if (given.group.empty()) {
        given.what = given.runs.front();
        given.runs.erase(given.runs.begin());
      }
      if (given.runs.empty()) throw RecipeError("retort trace: expected the folder of at least one run");
      return trace(given);
    };
  });
}

}  // namespace retort
