#include "run/model_card.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "report/fidelity.h"
#include "report/markdown.h"
#include "report/progress.h"
#include "run/bom_completeness.h"
#include "run/model_bom.h"
#include "run/not_stated.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kNotStated = "not stated";

std::string stated(const std::string& text, const char* key) {
  return text.empty() ? fmt::format("{} ({})", kNotStated, key) : text;
}

// "The clinic, https://clinic.org, data@clinic.org"
std::string supplier_line(const SupplierSpec& supplier) {
  std::string line;
  for (const auto& part : {supplier.name, supplier.url, supplier.contact})
    if (!part.empty()) line += (line.empty() ? "" : ", ") + part;
  return line;
}

// A text that YAML reads as it stands: JSON's strings are YAML's.
std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

void add_list(std::string& yaml, const char* key, const std::vector<std::string>& values) {
  if (values.empty()) return;
  yaml += fmt::format("{}:\n", key);
  for (const auto& value : values) yaml += fmt::format("- {}\n", quoted(value));
}

// How hubs call what an export is to its base.
std::string relation(const Recipe& recipe, const ModelResult& model) {
  const auto& kind = model.artefact->kind;
  if (kind == "peft" || kind == "gguf-adapter") return "adapter";
  if (kind == "gguf") return "quantized";
  return recipe.adapter.kind == "none" && recipe.adapter.merge.size() > 1 ? "merge" : "finetune";
}

std::vector<std::string> tags_of(const Recipe& recipe, const ModelResult& model) {
  std::vector<std::string> tags = {"retort"};
  if (recipe.adapter.low_rank()) tags.push_back(recipe.adapter.kind);
  if (recipe.distill) tags.emplace_back("distillation");
  if (model.artefact->kind.starts_with("gguf")) tags.emplace_back("gguf");
  for (const auto& tag : recipe.card.tags)
    if (std::find(tags.begin(), tags.end(), tag) == tags.end()) tags.push_back(tag);
  return tags;
}

const char* library_of(const ModelResult& model) {
  const auto& kind = model.artefact->kind;
  if (kind == "peft") return "peft";
  return kind == "safetensors" ? "transformers" : nullptr;
}

std::string model_index(const Recipe& recipe, const std::vector<TaskResult>& tasks) {
  std::string yaml;
  for (const auto& task : tasks) {
    std::string metrics;
    for (const auto& [name, value] : task.metrics)
      if (std::isfinite(value))
        metrics += fmt::format("    - type: {}\n      value: {}\n      name: {}\n", quoted(name), value,
                               quoted(task.task + "." + name));
    if (metrics.empty()) continue;
    yaml += fmt::format(
        "  - task:\n      type: text-generation\n    dataset:\n      type: {}\n"
        "      name: {}\n    metrics:\n{}",
        looks_at_training(task) ? "training" : "held-out",
        quoted(fmt::format("{} samples of task {}", task.count, task.task)), metrics);
  }
  if (yaml.empty()) return "";
  return fmt::format("model-index:\n- name: {}\n  results:\n{}", quoted(model_title(recipe)), yaml);
}

std::string with_interval(const TaskResult& task, const std::string& metric, double value) {
  const auto* interval = task.interval(metric);
  return interval ? fmt::format("{:.4g} ({:.4g} to {:.4g})", value, interval->low, interval->high)
                  : fmt::format("{:.4g}", value);
}

std::string value_in(const std::vector<TaskResult>& tasks, const std::string& name,
                     const std::string& metric) {
  for (const auto& task : tasks)
    if (task.task == name)
      if (const auto* value = task.metric(metric)) return with_interval(task, metric, *value);
  return "-";
}

Table scores_table(const std::string& title, const RunResult& result,
                   const std::vector<std::pair<std::string, const std::vector<TaskResult>*>>& models) {
  Table table{title,
              "With 95 % intervals in brackets, as far as the choice of the samples goes.",
              {"score", "samples"},
              {},
              false};
  for (const auto& [name, tasks] : models) table.head.push_back(name);
  const auto& first = result.tuned.tasks.empty() ? result.base.tasks : result.tuned.tasks;
  for (const auto& task : first)
    for (const auto& [metric, value] : task.metrics) {
      std::vector<std::string> row = {task.task + "." + metric, std::to_string(task.count)};
      for (const auto& [name, tasks] : models) row.push_back(value_in(*tasks, task.task, metric));
      table.rows.push_back(std::move(row));
    }
  return table;
}

Table data_table(const std::string& title, const SamplesResult& samples, const RecipeCard& card,
                 bool whole_path) {
  Table table{
      title,
      fmt::format("{} training samples and {} held out, {} tokens, {} of them learned. Licence of the "
                  "data: {}.",
                  samples.train, samples.held_out, samples.tokens, samples.supervised,
                  stated(card.data_license, "card.data_license")),
      {"source", "records", "to train on", "held out", "samples in an epoch"},
      {},
      false};
  for (const auto& source : samples.sources)
    table.rows.push_back({whole_path ? source.path : fs::path(source.path).filename().string(),
                          std::to_string(source.records), std::to_string(source.train),
                          std::to_string(source.held_out), std::to_string(source.samples)});
  return table;
}

Table rows_of(const std::string& title, std::vector<std::vector<std::string>> rows,
              const std::string& note = "") {
  return {title, note, {"item", "recorded"}, std::move(rows), true};
}

}  // namespace

std::string model_title(const Recipe& recipe) {
  return recipe.about.empty() ? fs::path(recipe.model.path).stem().string() + ", tuned" : recipe.about;
}

const std::vector<TaskResult>& scores_of_export(const RunResult& result, const ModelResult& model) {
  return model.tasks.empty() ? result.tuned.tasks : model.tasks;
}

std::string computation_line(const TrainingResult& training, const RecipeCard& card) {
  if (training.operations == 0) return "nothing was trained";
  auto line = fmt::format(
      "{:.3g} floating-point operations in matrix products (four for each weight at work and token, six for "
      "each that is trained, two more where layers are computed again; attention's scores are not counted)",
      training.operations);
  if (card.base_training_flops > 0)
    line += fmt::format("; {:.3g} of the base's {:.3g} (card.base_training_flops)",
                        training.operations / card.base_training_flops, card.base_training_flops);
  else line += "; the base's own training is not stated (card.base_training_flops)";
  return line;
}

namespace {

// Of everything that a recipe names by a path the folder it lies in, the deepest first: "data/private/".
std::vector<std::string> folders_of(const Recipe& recipe) {
  std::vector<std::string> folders;
  const auto add = [&](std::string path) {
    while (path.ends_with('/')) path.pop_back();
    const auto slash = path.rfind('/');
    if (slash != std::string::npos && slash > 0) folders.push_back(path.substr(0, slash + 1));
  };
  add(recipe.model.path), add(recipe.adapter.from), add(recipe.run.folder + "/x");
  for (const auto& source : recipe.data.sources) add(source.path);
  for (const auto& adapter : recipe.adapter.merge) add(adapter.path);
  if (recipe.teacher) add(recipe.teacher->path), add(recipe.teacher->distillkit);
  for (const auto& task : recipe.eval.tasks) {
    add(task.path), add(task.examples);
    if (task.source) add(task.source->path);
  }
  std::sort(folders.begin(), folders.end(),
            [](const auto& one, const auto& other) { return one.size() > other.size(); });
  return folders;
}

// Whether a path that stands behind C may have begun earlier.
bool is_of_path(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || std::string("_-./~").find(c) != std::string::npos;
}

// "/home/anna/notes.csv: 3 records" is "notes.csv: 3 records".
std::string without_absolute_folders(std::string text) {
  for (size_t at = 0; (at = text.find('/', at)) != std::string::npos;) {
    auto end = std::min(text.find_first_of(" \t\"'`,;:()<>|", at), text.size());
    const bool of_url = at > 0 && text[at - 1] == ':' && text.compare(at, 2, "//") == 0;
    while (end > at + 1 && text[end - 1] == '/') --end;
    const auto last = text.rfind('/', end - 1);
    if (of_url || (at > 0 && is_of_path(text[at - 1])) || last == at) at = std::max(end, at + 1);
    else text.erase(at, last + 1 - at);
  }
  return text;
}

// Cards and bills go out; where files lay on this machine is nobody's business there.
std::string without_folders(std::string text, const Recipe& recipe) {
  for (const auto& folder : folders_of(recipe))
    for (size_t at = 0; (at = text.find(folder, at)) != std::string::npos;) {
      if (at > 0 && is_of_path(text[at - 1])) ++at;
      else text.erase(at, folder.size());
    }
  return without_absolute_folders(std::move(text));
}

}  // namespace

std::vector<std::string> known_limits(const Recipe& recipe, const RunResult& result) {
  std::vector<std::string> limits;
  if (!recipe.card.limits.empty()) limits.push_back(recipe.card.limits);
  for (const auto& model : result.exports)
    if (model.agreement && fidelity_of(model.agreement->kl_nats, model.agreement->top1) != "good")
      limits.push_back(
          fmt::format("{} is rated {}: {:.3g} nats a token from the trained model, the same token in "
                      "{:.1f} % of the places",
                      model.name, fidelity_of(model.agreement->kl_nats, model.agreement->top1),
                      model.agreement->kl_nats, 100 * model.agreement->top1));
  for (const auto& failure : result.failures)
    limits.push_back(failure.stage + " failed: " + without_folders(failure.reason, recipe));
  if (result.samples.held_out < 100)
    limits.push_back(fmt::format("{} held-out samples: intervals are wide", result.samples.held_out));
  const bool given_away = std::ranges::any_of(result.tuned.tasks, looks_at_training);
  limits.push_back(fmt::format("Scores are of the held-out samples above and of nothing else{}.",
                               given_away ? ", but for exposure and membership, which ask what is given away "
                                            "of the training samples"
                                          : ""));
  for (const auto& note : result.samples.notes)  // the lines below the first are about single records
    limits.push_back(without_folders(note.substr(0, note.find('\n')), recipe));
  return limits;
}

std::string model_card(const Recipe& recipe, const RunResult& result, const ModelResult& model) {
  const auto& card = recipe.card;
  std::string text = "---\n";
  if (!card.license.empty()) text += fmt::format("license: {}\n", quoted(card.license));
  if (!card.base_model.empty())
    text += fmt::format("base_model: {}\nbase_model_relation: {}\n", quoted(card.base_model),
                        relation(recipe, model));
  add_list(text, "datasets", card.datasets);
  add_list(text, "language", card.languages);
  if (const auto* library = library_of(model)) text += fmt::format("library_name: {}\n", library);
  text += "pipeline_tag: text-generation\n";
  add_list(text, "tags", tags_of(recipe, model));
  text += model_index(recipe, scores_of_export(result, model)) + "---\n\n";

  text += fmt::format("# {}\n\n", escape_markdown(model_title(recipe)));
  text +=
      fmt::format("{}, {}, {:.1f} MiB. Base: {}. Licence: {}.\n",
                  escape_markdown(fs::path(model.name).filename().string()), model.artefact->label,
                  static_cast<double>(model.artefact->bytes) / (1 << 20),
                  escape_markdown(card.base_model.empty() ? fs::path(recipe.model.path).filename().string()
                                                          : card.base_model),
                  escape_markdown(stated(card.license, "card.license")));
  if (const auto supplier = supplier_line(card.supplier); !supplier.empty())
    text += fmt::format("Supplied by {}.\n", escape_markdown(supplier));
  text += "\n## Intended use\n\n" + escape_markdown(stated(card.intended_use, "card.intended_use")) + "\n";
  text += "\n## Scores\n" +
          table_markdown(scores_table(
              "", result, {{"base", &result.base.tasks}, {"this", &scores_of_export(result, model)}}));
  if (model.agreement)
    text += fmt::format(
        "\nRead back from its file it is {:.3g} nats a token from the trained model, and chooses the "
        "same token in {:.1f} % of {} places ({}).\n",
        model.agreement->kl_nats, 100 * model.agreement->top1, model.agreement->rows,
        fidelity_of(model.agreement->kl_nats, model.agreement->top1));
  text += "\n## Training\n\n";
  text += fmt::format("- {}\n", recipe.adapter.low_rank()
                                    ? fmt::format("{}, rank {}, alpha {:g}", recipe.adapter.kind,
                                                  recipe.adapter.rank, recipe.adapter.alpha)
                                : recipe.adapter.kind == "full" ? "every weight"
                                                                : "nothing was trained");
  // No time: the card of a run that is made again has the same bytes.
  text += fmt::format("- {} steps, {} tokens\n", result.training.steps, result.training.tokens);
  text += "- " + escape_markdown(computation_line(result.training, card)) + "\n";
  text += "\n## Data\n" + table_markdown(data_table("", result.samples, card, false));
  text += "\n## Known limits\n\n";
  for (const auto& limit : known_limits(recipe, result)) text += "- " + escape_markdown(limit) + "\n";
  text += fmt::format("\nWritten by retort {} from the record of the run.\n", RETORT_VERSION);
  return text;
}

Page dossier(const Run& run, const RunResult& result, const RunRecord& record,
             const std::vector<LedgerEntry>& entries) {
  const auto& recipe = run.recipe();
  const auto& card = recipe.card;
  Page page;
  page.title = "Dossier: " + model_title(recipe);
  page.about =
      "Facts from the record of a run. Sections are named after the items of Annex XI (general-purpose "
      "models) and "
      "Annex IV (high-risk systems) of Regulation (EU) 2024/1689 that they may serve; that they suffice for "
      "any of "
      "them is not claimed.";
  page.facts = record.facts;

  std::vector<std::string> exports;
  for (const auto& model : result.exports)
    if (model.artefact)
      exports.push_back(fmt::format("{} ({}, {:.1f} MiB)", model.name, model.artefact->label,
                                    static_cast<double>(model.artefact->bytes) / (1 << 20)));
  page.tables.push_back(rows_of(
      "General description (Annex XI 1.1; Annex IV 1)",
      {{"Tasks that it is intended for", stated(card.intended_use, "card.intended_use")},
       {"Base model",
        card.base_model.empty() ? recipe.model.path : card.base_model + ", " + recipe.model.path},
       {"Architecture", result.samples.architecture},
       {"Parameters", fmt::format("{:.4g} million, {:.4g} million of them trained",
                                  result.training.weights / 1e6, result.training.trained_weights / 1e6)},
       {"Input and output", "text"},
       {"Form of distribution", exports.empty() ? "no export" : fmt::format("{}", fmt::join(exports, "; "))},
       {"Licence", stated(card.license, "card.license")},
       {"Supplier", stated(supplier_line(card.supplier), "card.supplier")}}));
  page.tables.push_back(rows_of(
      "Training process (Annex XI 1.2 b; Annex IV 2 b)",
      {{"Method", recipe.adapter.low_rank()       ? recipe.adapter.kind
                  : recipe.adapter.kind == "full" ? "every weight"
                                                  : "nothing trained"},
       {"Teacher", recipe.distill
                       ? (recipe.teacher->path.empty() ? recipe.teacher->url : recipe.teacher->path)
                       : std::string("none")},
       {"Steps",
        fmt::format("{}, {} of them skipped as not finite", result.training.steps, result.training.skipped)},
       {"Tokens", fmt::format("{}, {} of them learned", result.training.tokens, result.training.supervised)},
       {"Settings", "the resolved recipe: recipe.yaml, sha256 " + record.recipe_sha256}}));
  auto data = data_table("Data (Annex XI 1.2 c; Annex IV 2 d)", result.samples, card, true);
  page.tables.push_back(std::move(data));
  std::vector<std::vector<std::string>> splits = {
      {"Groups", result.samples.groups == 0 ? std::string("each record is its own")
                                            : fmt::format("{}, {} of them held out", result.samples.groups,
                                                          result.samples.held_out_groups)}};
  for (const auto& note : result.samples.notes) splits.push_back({"Note", note});
  page.tables.push_back(
      rows_of("Split, leaks and what was left out (Annex XI 1.2 c; Annex IV 2 d)", splits,
              "Held-out samples that occur in the training data are counted here; no note: none "
              "was found."));
  page.tables.push_back(
      rows_of("Compute (Annex XI 1.2 d)",
              {{"Operations", computation_line(result.training, card)},
               {"Training time", duration(result.training.seconds)},
               {"Largest memory",
                fmt::format("{:.2f} GiB", static_cast<double>(result.training.peak_bytes) / (1 << 30))}}));
  const auto energy = card.energy_kwh > 0
                          ? fmt::format("{:g} kWh, as the recipe states (card.energy_kwh)", card.energy_kwh)
                          : std::string("not measured");
  page.tables.push_back(rows_of("Energy (Annex XI 1.2 e)", {{"Energy", energy}}));
  std::vector<std::pair<std::string, const std::vector<TaskResult>*>> models = {
      {"base", &result.base.tasks}, {"tuned", &result.tuned.tasks}};
  for (const auto& model : result.exports)
    if (!model.tasks.empty()) models.emplace_back(model.name, &model.tasks);
  if (!result.base.tasks.empty())
    page.tables.push_back(scores_table("Scores (Annex IV 2 g)", result, models));
  Table gates{"Gates (Annex IV 2 g)", "", {"bound", "result"}, {}, false};
  for (const auto& [line, passed] : record.gates) gates.rows.push_back({line, passed ? "passed" : "failed"});
  if (!gates.rows.empty()) page.tables.push_back(std::move(gates));
  std::vector<std::vector<std::string>> limits;
  for (const auto& limit : known_limits(recipe, result)) limits.push_back({"Limit", limit});
  page.tables.push_back(rows_of("Known limits (Annex IV 3)", limits));
  page.tables.push_back(not_stated_table(recipe));
  if (const auto bills = counted_bills(run.folder()); !bills.empty())
    page.tables.push_back(bills_table("Bills of materials", bills));
  std::vector<std::vector<std::string>> events;
  std::map<std::string, std::pair<int64_t, std::string>> counted;
  for (const auto& entry : entries) {
    ++counted[entry.event].first;
    counted[entry.event].second = entry.time;
  }
  for (const auto& [event, count] : counted)
    events.push_back({event, fmt::format("{}, the last at {}", count.first, count.second)});
  page.tables.push_back(
      rows_of("Events (Annex IV 2 g, 6)", events,
              fmt::format("All of them: {}, each with the hash of the one before.", kLedgerFile)));
  page.notes = record.notes;
  page.recipe = record.recipe;
  page.recipe_sha256 = record.recipe_sha256;
  page.read = record.read;
  page.written = record.written;
  page.footer = fmt::format("Written by retort {} from the record of the run in {}.", RETORT_VERSION,
                            run.folder().string());
  return page;
}

void write_cards(Run& run, const RunResult& result, const RunRecord& record) {
  // By folder; that of a file is the folder that it lies in. Of files beside each other the card is that of
  // the first whole model.
  std::map<fs::path, std::string> cards;
  std::map<fs::path, std::vector<const ModelResult*>> folders;
  const auto add = [&](bool adapter_file) {
    for (const auto& model : result.exports) {
      if (!model.artefact || (model.artefact->kind == "gguf-adapter") != adapter_file) continue;
      const bool is_folder = fs::is_directory(run.folder() / model.name);
      const auto folder = is_folder ? fs::path(model.name) : fs::path(model.name).parent_path();
      cards.emplace(folder / "README.md", model_card(run.recipe(), result, model));
      folders[folder].push_back(&model);
    }
  };
  add(false);
  add(true);
  StageInputs inputs;
  inputs.add("retort", RETORT_VERSION)
      .add("recipe", record.recipe)
      .add("stages", run.ledger().hash({"cards"}));
  std::vector<fs::path> outputs = {"dossier.md", "dossier.html"};
  for (const auto& [file, text] : cards) {
    inputs.add(file.string(), text);
    outputs.push_back(file);
  }
  for (const auto& [folder, models] : folders) outputs.push_back(folder / kBomFile);
  run.ledger().run("cards", inputs, outputs, [&] {
    for (const auto& [file, text] : cards) write_text(run.folder() / file, text);
    const auto read = make_manifest(run.folder(), run.ledger().files_read(), record.recipe_sha256);
    for (const auto& [folder, models] : folders)
      write_text(run.folder() / folder / kBomFile,
                 bom_text(bom_of_folder(run, result, record, read, folder, models)));
    auto with_hashes = record;
    const auto manifest = make_manifest(run.folder(), run.ledger().files_read(), record.recipe_sha256);
    with_hashes.read = manifest.read;
    with_hashes.written.clear();
    for (const auto& file : manifest.written)  // not what is still to be written
      if (file.path != "stages.json" && file.path != kLedgerFile && !file.path.starts_with("dossier."))
        with_hashes.written.push_back(file);
    const auto page = dossier(run, result, with_hashes, read_ledger(run.folder()));
    write_text(run.folder() / "dossier.md", page_markdown(page));
    write_text(run.folder() / "dossier.html", page_html(page));
    return Json::object();
  });
}

}  // namespace retort
