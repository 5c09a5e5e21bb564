#include "run/run_result.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "data/record_list.h"
#include "ops/device.h"
#include "ops/device_copies.h"
#include "report/manifest.h"
#include "run/export_notes.h"
#include "run/memorization_table.h"
#include "run/not_stated.h"
#include "run/score_tables.h"
#include "run/who.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr double kSameModel = 1e-6;  // nats: an adapter read back is the same arithmetic on the same numbers

bool generates(const TaskResult& task) {
  return task.kind == "completion" || task.kind == "numeric" || task.kind == "code";
}

std::string bound_text(const BoundSpec& gate) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (gate.at_least) add(fmt::format("at least {:g}", *gate.at_least));
  if (gate.at_most) add(fmt::format("at most {:g}", *gate.at_most));
  if (gate.worse_than_base_by)
    add(*gate.worse_than_base_by == 0
            ? std::string("not worse than the base")
            : fmt::format("worse than the base by {:g} at most", *gate.worse_than_base_by));
  if (gate.against_base == "better") add("significantly better than the base");
  if (gate.against_base == "not_worse") add("not significantly worse than the base");
  return text;
}

// The tasks of an export, with its comparison as one more.
std::vector<TaskResult> with_comparison(const ModelResult& model) {
  auto tasks = model.tasks;
  if (model.agreement)
    tasks.push_back({kComparison,
                     kComparison,
                     {{"kl_nats", model.agreement->kl_nats},
                      {"largest_kl_nats", model.agreement->largest_kl_nats},
                      {"top1", model.agreement->top1}},
                     {},
                     0,
                     0,
                     0});
  return tasks;
}

std::vector<std::string> notes_of(const Run& run, const RunResult& result) {
  const auto& recipe = run.recipe();
  std::vector<std::string> notes;
  for (const auto& failure : result.failures)
    notes.push_back(fmt::format("FAILED: {}: {}", failure.stage, failure.reason));
  notes.insert(notes.end(), result.samples.notes.begin(), result.samples.notes.end());
  notes.insert(notes.end(), result.training.notes.begin(), result.training.notes.end());
  if (recipe.adapter.low_rank() && !result.exports.empty()) {
    notes.push_back(
        recipe.model.weights == "keep"
            ? "The adapter was trained against the base as its file stores it, and is merged into just that: "
              "quantized blocks are decoded to fp32, the update is added in fp32, and each export rounds "
              "once."
            : fmt::format(
                  "The adapter was trained against the base held as {} (model.weights), and is merged into "
                  "that base decoded to fp32, not into the file's own weights; each export rounds once.",
                  recipe.model.weights));
  }
  for (const auto& model : result.exports) {
    if (!model.artefact) continue;
    if (const auto line = describe_rounding(*model.artefact); !line.empty())
      notes.push_back(model.name + ": " + line);
    if (model.agreement)
      if (const auto line = describe_fidelity(*model.artefact, *model.agreement, recipe.model); !line.empty())
        notes.push_back(model.name + ": " + line);
    for (const auto& line : model.artefact->fallbacks)
      notes.push_back(fmt::format("{}: rows that do not fill a block take llama.cpp's fallback type: {}.",
                                  model.name, line));
    for (const auto& line : model.artefact->ignored)
      notes.push_back(fmt::format("{}: {}.", model.name, line));
  }
  for (const auto& line : own_mistakes(result)) notes.push_back(line + ".");
  return notes;
}

std::string last_user_text(const Record& record) {
  for (auto message = record.messages.rbegin(); message != record.messages.rend(); ++message)
    if (message->role == "user") return message->content;
  return record.text;
}

const TaskResult* first_completion(const std::vector<TaskResult>& tasks) {
  const auto found = std::find_if(tasks.begin(), tasks.end(),
                                  [](const TaskResult& task) { return task.kind == "completion"; });
  return found == tasks.end() ? nullptr : &*found;
}

std::vector<ShownSample> shown_samples(Run& run) {
  const auto most = static_cast<size_t>(run.recipe().shown_samples());
  if (most == 0) return {};
  const auto file = [&](const char* name) { return run.folder() / "eval" / name; };
  if (!fs::exists(file("base.json")) || !fs::exists(file("tuned.json"))) return {};
  const auto base = read_tasks(file("base.json")), tuned = read_tasks(file("tuned.json"));
  const auto *before = first_completion(base), *after = first_completion(tuned);
  if (!before || !after) return {};
  std::map<std::string, std::string> prompts;
  for (const auto& record : run.dataset().held_out_records)
    prompts.emplace(record.place, last_user_text(record));
  std::vector<ShownSample> shown;
  for (size_t i = 0; i < std::min({before->samples.size(), after->samples.size(), most}); ++i) {
    const auto &one = before->samples[i], &other = after->samples[i];
    const auto prompt = prompts.find(one.id);
    shown.push_back({prompt == prompts.end() ? one.id : prompt->second, one.expected, one.got, other.got,
                     one.score == 1, other.score == 1});
  }
  return shown;
}

std::vector<std::pair<std::string, std::string>> facts_of(Run& run, const RunResult& result) {
  const auto& recipe = run.recipe();
  std::vector<std::pair<std::string, std::string>> facts;
  std::string base = recipe.model.path;
  for (const auto& adapter : recipe.adapter.merge)
    base += fmt::format(" + {:g} x {}", adapter.weight, adapter.path);
  facts.emplace_back(
      "Base", base + (recipe.model.weights == "keep" ? "" : ", linear layers as " + recipe.model.weights));
  facts.emplace_back("Arithmetic", run.compute() == at::kBFloat16 ? "bf16" : "fp32");
  facts.emplace_back("Device", describe(run.device()));
  const DeviceRoom there{.held = result.training.device_bytes,
                         .travelling = result.training.device_travelling};
  if (there.held + there.travelling > 0) facts.back().second += "; " + describe(there);
  if (recipe.adapter.low_rank())
    facts.emplace_back(
        "Adapter", fmt::format("{}, rank {}, alpha {:g}{}", recipe.adapter.kind, recipe.adapter.rank,
                               recipe.adapter.alpha,
                               recipe.adapter.from.empty() ? "" : ", started from " + recipe.adapter.from));
  else facts.emplace_back("Trained", recipe.adapter.kind == "full" ? "every weight" : "nothing");
  facts.emplace_back("Samples",
                     fmt::format("{} and {} held out", result.samples.train, result.samples.held_out));
  int64_t records = 0, learned = 0, asked = 0;
  for (const auto& source : result.samples.sources)
    records += source.records, learned += source.train, asked += source.held_out;
  facts.emplace_back("Records", fmt::format("{}, {} of them to train on, {} held out; {} names each by hash",
                                            records, learned, asked, kRecordsFile));
  if (result.samples.groups > 0)
    facts.emplace_back("Groups", fmt::format("{}, {} of them held out", result.samples.groups,
                                             result.samples.held_out_groups));
  if (result.training.rows > 0 && result.training.tokens > result.training.rows)
    facts.emplace_back("Shared prefixes", fmt::format("{:.0f} % of the rows saved",
                                                      100 - 100 * static_cast<double>(result.training.rows) /
                                                                static_cast<double>(result.training.tokens)));
  return facts;
}

}  // namespace

uint64_t bytes_of(const fs::path& path) {
  if (!fs::is_directory(path)) return fs::file_size(path);
  uint64_t bytes = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    bytes += entry.is_regular_file() ? entry.file_size() : 0;
  return bytes;
}

std::vector<std::pair<std::string, bool>> gate_lines(const Recipe& recipe, const RunResult& result,
                                                     const fs::path& run_folder) {
  std::vector<std::pair<std::string, bool>> lines;
  const auto check = [&](const BoundSpec& gate, const std::string& model,
                         const std::vector<TaskResult>& tasks, const fs::path& answers) {
    bool holds = failed_gates({gate}, result.base.tasks, tasks, tasks).empty();
    std::string tested;
    if (gate.against_base != "any") {
      const auto found =
          against_base(gate, read_tasks(run_folder / result.base.answers), read_tasks(run_folder / answers));
      holds = holds && found.holds;
      tested = fmt::format(" ({})", found.how);
    }
    std::string text;
    const auto dot = gate.metric.rfind('.');
    for (const auto& task : tasks)
      if (const auto* value =
              task.task == gate.metric.substr(0, dot) ? task.metric(gate.metric.substr(dot + 1)) : nullptr)
        text = fmt::format("{} of {} is {:.4g}; {}{}", gate.metric, model, *value, bound_text(gate), tested);
    lines.emplace_back(text, holds);
  };
  for (const auto& gate : recipe.gate) {
    if (gate.model == "tuned") {
      check(gate, "tuned", result.tuned.tasks, result.tuned.answers);
      continue;
    }
    for (const auto& model : result.exports)
      if (model.artefact && (model.artefact->kind == "gguf" || model.artefact->kind == "safetensors"))
        check(gate, model.name, with_comparison(model), model.answers);
  }
  for (const auto& model : result.exports) {
    if (model.equal_prompts != model.prompts)
      lines.emplace_back(fmt::format("{}: {} of {} held-out prompts have other token ids than with the base",
                                     model.name, model.prompts - model.equal_prompts, model.prompts),
                         false);
    const bool adapter =
        model.artefact && (model.artefact->kind == "peft" || model.artefact->kind == "gguf-adapter");
    if (adapter && model.agreement && !(model.agreement->kl_nats <= kSameModel))
      lines.emplace_back(
          fmt::format(
              "{}: read back on its base it is {:.2e} nats a token from the trained model; at most {:g}",
              model.name, model.agreement->kl_nats, kSameModel),
          false);
  }
  return lines;
}

std::vector<std::string> own_mistakes(const RunResult& result) {
  std::vector<std::string> lines;
  for (const auto& model : result.exports) {
    const auto within = model.artefact ? model.artefact->exact_within : std::nullopt;
    if (within && model.agreement && !(model.agreement->kl_nats <= *within))
      lines.push_back(fmt::format(
          "{}: it holds fp32 and yet reads back {:.2e} nats a token from the trained model, of at "
          "most {:g}; that is a mistake of retort's: do not deploy this run's exports, and please "
          "report it",
          model.name, model.agreement->kl_nats, *within));
  }
  return lines;
}

void throw_own_mistakes(const RunResult& result) {
  if (const auto lines = own_mistakes(result); !lines.empty())
    throw Failure(fmt::format("{}", fmt::join(lines, "\n")));
}

ModelSizes sizes_of(const Recipe& recipe, const TrainingResult& training) {
  ModelSizes sizes;
  if (!recipe.prune) sizes.base = bytes_of(recipe.model.path);
  if (recipe.adapter.kind == "full") sizes.tuned = training.trainable_bytes;
  else if (sizes.base) sizes.tuned = *sizes.base + training.trainable_bytes;
  return sizes;
}

void add_models(RunRecord& record, const std::vector<const ModelResult*>& models, const ModelSizes& sizes) {
  for (const auto* model : models) {  // columns in the order of the tasks
    for (const auto& task : model->tasks) {
      const auto head = headline(task);
      const auto title = task.task == task.kind ? head.title : task.task + " " + head.title;
      if (std::none_of(record.columns.begin(), record.columns.end(),
                       [&](const ScoreColumn& column) { return column.title == title; }))
        record.columns.push_back({title, head.share});
    }
  }
  for (const auto* model : models) {
    ModelRow row{model->name, std::vector<std::optional<double>>(record.columns.size()), {}, {}, {}, {}};
    for (const auto& task : model->tasks) {
      const auto head = headline(task);
      const auto title = task.task == task.kind ? head.title : task.task + " " + head.title;
      for (size_t i = 0; i < record.columns.size(); ++i)
        if (const auto* value = task.metric(head.metric); value && record.columns[i].title == title)
          row.scores[i] = *value;
      if (generates(task) && !row.tokens_per_second && task.seconds > 0)
        row.tokens_per_second = static_cast<double>(task.tokens) / task.seconds;
    }
    if (model->name == "base") row.bytes = sizes.base;
    if (model->name == "tuned") row.bytes = sizes.tuned;
    if (model->artefact) row.bytes = model->artefact->bytes;
    if (model->agreement) row.kl_nats = model->agreement->kl_nats, row.top1 = model->agreement->top1;
    record.models.push_back(std::move(row));
  }
}

RunRecord write_report(Run& run, const RunResult& result) {
  const auto& recipe = run.recipe();
  RunRecord record;
  record.title = recipe.about.empty() ? fs::path(run.loaded().file).stem().string() : recipe.about;
  record.about = fmt::format("retort run {}", run.loaded().file);
  record.folder = run.folder();
  record.facts = beginning_of(read_ledger(run.folder()));
  for (auto& fact : facts_of(run, result)) record.facts.push_back(std::move(fact));
  std::vector<const ModelResult*> models;
  for (const auto* model : {&result.base, &result.tuned})
    if (!model->tasks.empty()) models.push_back(model);
  for (const auto& model : result.exports) models.push_back(&model);
  add_models(record, models, sizes_of(recipe, result.training));
  record.tables = class_tables(models);
  for (auto& table : program_tables(models)) record.tables.push_back(std::move(table));
  if (auto given_away = memorization_table(models); !given_away.rows.empty())
    record.tables.push_back(std::move(given_away));
  record.details = class_details(models);
  if (!result.experts.layers.empty()) record.details.push_back(experts_table(result.experts.layers));
  if (auto by_source = source_table(run.folder(), models, run.recipe().data, run.dataset().held_out_records);
      !by_source.rows.empty())
    record.tables.push_back(std::move(by_source));
  if (auto differences = difference_table(run.folder(), models); !differences.rows.empty())
    record.tables.push_back(std::move(differences));
  if (run.trains()) {
    const auto& training = result.training;
    record.training =
        TrainingNumbers{training.steps,           result.samples.train, result.samples.held_out,
                        training.tokens,          training.rows,        training.seconds,
                        training.startup_seconds, training.peak_bytes,  training.held_out_before,
                        training.held_out_after};
  }
  if (!result.failures.empty()) {
    Table failed{"Failed",
                 "The run went on without these; the same command tries them again.",
                 {"stage", "reason"},
                 {},
                 true};
    for (const auto& failure : result.failures) failed.rows.push_back({failure.stage, failure.reason});
    record.tables.push_back(std::move(failed));
  }
  record.details.push_back(not_stated_table(recipe));
  std::vector<StageLine> lines = {result.samples.line};
  lines.insert(lines.end(), result.base.lines.begin(), result.base.lines.end());
  lines.push_back(result.training.line);
  lines.insert(lines.end(), result.tuned.lines.begin(), result.tuned.lines.end());
  if (result.experts.line) lines.push_back(*result.experts.line);
  for (const auto& model : result.exports) lines.insert(lines.end(), model.lines.begin(), model.lines.end());
  lines.insert(lines.end(), result.distill.lines.begin(), result.distill.lines.end());
  if (!result.distill.models.empty()) {
    record.tables.push_back(distill_table(result.distill));
    if (auto chart = distill_chart(run.folder(), result.distill); !chart.series.empty())
      record.charts.push_back(std::move(chart));
  }
  for (const auto& line : lines)
    record.stages.push_back({line.name, fmt::format("{:.1f}", line.seconds), line.what});
  record.gates = gate_lines(recipe, result, run.folder());
  record.notes = notes_of(run, result);
  record.recipe = run.loaded().resolved;
  record.recipe_sha256 = run.loaded().sha256;
  record.footer = fmt::format(
      "Written by retort {}. This page needs nothing else; `retort verify {}` compares every file with the "
      "record.",
      RETORT_VERSION, run.folder().string());

  StageInputs inputs;
  inputs.add("retort", RETORT_VERSION)
      .add("recipe", record.recipe)
      .add("notes", fmt::format("{}", fmt::join(record.notes, "\n")))
      .add("stages", run.ledger().hash({"report", "cards"}));
  run.ledger().run("report", inputs, {"report.html"}, [&] {
    record.samples = shown_samples(run);
    const auto manifest =
        make_manifest(run.folder(), run.ledger().files_read(), record.recipe_sha256, run.device().str());
    record.read = manifest.read;
    for (const auto& file : manifest.written)
      if (file.path != "report.html" && file.path != "stages.json" && file.path != kLedgerFile)
        record.written.push_back(file);  // still to be written
    write_text(run.folder() / "report.html", page_html(run_page(record)));
    return Json::object();
  });
  return record;
}

LedgerHead close_run(Run& run, OrderedJson facts) {
  if (run.ledger().worked() || !is_of_this_state(run.folder(), "stages.json"))
    close_manifest(
        make_manifest(run.folder(), run.ledger().files_read(), run.loaded().sha256, run.device().str()),
        run.folder(), run.events(), std::move(facts));
  return run.events().head();
}

}  // namespace retort
