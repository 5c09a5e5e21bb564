// `retort init DATA`: a recipe for somebody's records, with a reason beside each choice; `init --from FILE`:
// one of another tool's recipe.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/files.h"
#include "base/json.h"
#include "cli/beside_program.h"
#include "cli/commands.h"
#include "cli/tool_template.h"
#include "data/dataset.h"
#include "data/look_at_source.h"
#include "models/model.h"
#include "models/own_templates.h"
#include "recipe/recipe.h"
#include "recipe/translate.h"
#include "train/batches.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

struct InitOptions {
  std::string data, model, output, from, kind;
};

// JSON's strings are YAML's in double quotes.
std::string quoted(const std::string& text) { return Json(text).dump(); }

// Models that are where models are kept; of the package's where there is none.
std::string only_model() {
  std::vector<std::string> found;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator("checkpoints", absent))
    if (entry.path().extension() == ".gguf" || fs::exists(entry.path() / "config.json"))
      found.push_back(entry.path().string());
  std::sort(found.begin(), found.end());
  if (found.empty()) {
    const auto brought = beside_program("demo/smollm2-135m-instruct-q4_1.gguf");
    if (fs::exists(brought)) return brought.string();
  }
  if (found.size() == 1) return found[0];
  std::string listed;
  for (const auto& path : found) listed += (listed.empty() ? " (" : ", ") + printable(path);
  throw RecipeError(
      fmt::format("--model: missing; expected the base to train, a .gguf file or a Hugging Face folder: {}",
                  found.empty() ? "checkpoints/ holds none" : "checkpoints/ holds several" + listed + ")"));
}

// A source's keys that are not what they are by default, each behind its reason.
std::string source_text(const SourceLook& look) {
  const SourceSpec usual;
  const auto& source = look.source;
  std::string text = fmt::format("    - path: {}\n", quoted(source.path));
  const auto because = [&](const std::string& key) {
    for (const auto& [named, reason] : look.reasons)
      if (named == key) text += fmt::format("      # {}\n", reason);
  };
  const auto say = [&](const char* key, const std::string& value, const std::string& standard) {
    if (value == standard) return;
    because(key);
    text += fmt::format("      {}: {}\n", key,
                        value.find_first_not_of("abcdefghijklmnopqrstuvwxyz-0123456789") == std::string::npos
                            ? value
                            : quoted(value));
  };
  const auto say_names = [&](const char* key, const NamedValues& names) {
    if (names.entries.empty()) return;
    because(key);
    std::string listed;
    for (const auto& [name, value] : names.entries)
      listed += fmt::format("{}{}: {}", listed.empty() ? "" : ", ", quoted(name), value);
    text += fmt::format("      {}: {{{}}}\n", key, listed);
  };
  because("");
  say("format", source.format, usual.format);
  say("encoding", source.encoding, usual.encoding);
  say_names("fields", source.fields_of_records);
  say_names("roles", source.roles);
  say("prompt", source.prompt, usual.prompt);
  say("completion", source.completion, usual.completion);
  say("system", source.system, usual.system);
  say("group", source.group, usual.group);
  say("reasoning", source.reasoning, usual.reasoning);
  if (source.skip_empty) because("skip_empty"), text += "      skip_empty: true\n";
  say("on_bad_record", source.on_bad_record, usual.on_bad_record);
  if (!look.unused.empty())
    text += fmt::format("      # not used: {}{}\n", fmt::join(look.unused, ", "),
                        source.prompt.empty() ? "" : "; prompt takes a column whose name it has in braces");
  return text;
}

// Samples to be scored, at least: those of a group go together.
int64_t held_out_of(const SourceLook& look) {
  const auto groups = look.other_groups > 0 ? look.other_groups : look.records;
  return groups < 4 ? 0 : std::clamp<int64_t>(groups / 10, 1, 200);
}

// What the model makes of the records: which template, how long.
struct Fit {
  std::string chat_template;  // for data.template; empty: the model's own
  std::string reason;
  int64_t longest = 0, context = 0;
  Samples train;

  int64_t room() const;  // for a sample, in tokens
};

int64_t power_of_two_from(int64_t number) {
  int64_t power = 256;
  while (power < number) power *= 2;
  return power;
}

int64_t Fit::room() const { return std::min(power_of_two_from(longest), context); }

Fit fit_to_model(const SourceLook& look, const std::string& model) {
  const auto loaded = load_model({.path = model});
  const auto own = own_chat_template(own_templates(loaded), *loaded.tokenizer);
  DataSpec spec;
  spec.sources = {look.source};
  spec.held_out = {.fraction = 0, .count = held_out_of(look)};
  spec.sample_tokens = 1 << 20;
  spec.length = look.answers ? "cut" : "split";
  Fit fit;
  fit.context = loaded.model->config.context;
  const auto render_with = [&](const std::string& name) {
    spec.chat_template = name;
    const auto& chat = choose_chat_template(spec.wanted_template(), own_templates(loaded), *loaded.tokenizer);
    auto dataset = build_dataset(spec, *loaded.tokenizer, chat);
    fit.longest = dataset.counts.longest;
    if (fit.longest > fit.room()) {  // cut or split, there are other samples
      auto shorter = spec;
      shorter.sample_tokens = fit.room();
      dataset = build_dataset(shorter, *loaded.tokenizer, chat);
    }
    fit.train = std::move(dataset.train);
  };
  if (!own) fit.chat_template = "chatml", fit.reason = "the model brings no chat template";
  try {
    render_with(own ? "auto" : "chatml");
  } catch (const Error&) {
    // The model's own template has no place for what such records say; another may.
    if (!look.tools || !loaded.tokenizer->find("<|im_end|>")) throw;
    fit.chat_template = kToolTemplate;
    fit.reason =
        "the model's own template has no place for tools: this one is ChatML with tools, and exports "
        "carry it";
    render_with(fit.chat_template);
  }
  return fit;
}

std::string data_text(const SourceLook& look, const Fit& fit) {
  auto text = "data:\n  sources:\n" + source_text(look);
  const auto held_out = held_out_of(look);
  text += held_out > 0 ? fmt::format("  held_out: {{count: {}}}   # scored, never learned\n", held_out)
                       : "  held_out: {fraction: 0}   # too few records to keep any back\n";
  const auto room = fit.room();
  text += fmt::format("  sample_tokens: {}   # the longest sample has {} tokens\n", room, fit.longest);
  if (fit.longest > room)
    text += fmt::format("  # the model reads {} tokens at most\n  length: {}\n", fit.context,
                        look.answers ? "cut" : "split");
  if (fit.chat_template.empty()) return text;
  text += fmt::format("  # {}\n  template: ", fit.reason);
  if (fit.chat_template.find('\n') == std::string::npos) return text + fit.chat_template + "\n";
  text += "|-\n";
  for (size_t begin = 0; begin < fit.chat_template.size();) {
    const auto end = std::min(fit.chat_template.find('\n', begin), fit.chat_template.size());
    text += "    " + fit.chat_template.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return text;
}

std::string recipe_text(const SourceLook& look, const Fit& fit, const std::string& model) {
  const auto learned = static_cast<int64_t>(fit.train.size());
  TrainSpec train;
  train.batch.samples = std::clamp<int64_t>(learned / 8, 1, 16);
  const int64_t epochs = learned < 2000 ? 3 : learned < 20000 ? 2 : 1;
  const auto steps = Batches(fit.train, train.batch, static_cast<uint64_t>(train.seed))
                         .steps(static_cast<double>(epochs));  // as `check` counts them
  auto text = fmt::format(
      "# Written by `retort init`: {} records of {}, to be learned {}. `retort check` shows them as the "
      "model "
      "meets\n# them and says what a run takes; `retort explain KEY` says what else can be set.\n"
      "about: {}\n\nmodel:\n  path: {}\n  weights: keep   # trained on as the file has them\n\n",
      look.records, printable(look.source.path), look.answers ? "by their answers" : "as texts",
      quoted(fmt::format("{} learned from {}", fs::path(model).filename().string(),
                         fs::path(look.source.path).filename().string())),
      quoted(model));
  text += data_text(look, fit);
  text += fmt::format(
      "\nadapter: {{kind: lora, rank: 16, alpha: 32, targets: [all]}}\n\ntrain:\n  epochs: {}   # {} steps\n"
      "  batch: {{samples: {}, pass_tokens: {}}}\n  optimizer: {{learning_rate: 5.0e-4}}\n"
      "  schedule: {{kind: cosine, warmup_steps: {}}}\n\n",
      epochs, steps, train.batch.samples, std::max<int64_t>(2048, fit.room()),
      std::clamp<int64_t>(steps / 20, 0, 20));
  if (held_out_of(look) > 0) {
    text += "eval:\n  tasks:\n";
    if (look.answers && look.answer_bytes < 80)  // others are hardly ever given word by word
      text += fmt::format("    - {{kind: completion, max_tokens: {}}}\n",
                          power_of_two_from(static_cast<int64_t>(look.answer_bytes)) / 8);
    text +=
        "    - {kind: perplexity}\n\n"
        "gate:   # the run exits 1 where the model became worse\n"
        "  - {metric: perplexity.nats_per_token, worse_than_base_by: 0}\n\n";
  }
  return text + "export: {adapter: true, merged: none, gguf: [Q8_0]}\n";
}

void require_new(const std::string& file) {
  if (fs::exists(file))
    throw RecipeError(fmt::format("{}: is there already; name another file with --output", printable(file)));
}

Exit translate(const InitOptions& options) {
  const auto file = options.output.empty()
                        ? fs::path(options.from).filename().stem().string() + "-retort.yaml"
                        : options.output;
  require_new(file);
  if (!options.model.empty()) require_model_path("--model", options.model);
  const auto made = translate_recipe(read_text(options.from, size_t{4} << 20), options.from,
                                     {options.kind, options.model, options.data});
  try {
    parse_recipe(made.recipe, file);
  } catch (const RecipeError& error) {
    throw RecipeError(fmt::format("{}: holds values that retort does not take; its recipe would have\n{}",
                                  printable(options.from), error.what()));
  }
  write_text(file, made.recipe);
  for (const auto& line : made.look_here) fmt::print("LOOK HERE     {}\n", line);
  for (const auto& line : made.left_out) fmt::print("left out      {}\n", line);
  fmt::print("a recipe of {}; written: {}\nnext: retort check {}\n", name_of(made.tool), printable(file),
             printable(file));
  return Exit::done;
}

Exit init(const InitOptions& options) {
  if (!options.from.empty()) return translate(options);
  if (!options.kind.empty())
    throw RecipeError("--kind says what the file of --from is; `retort init --help` shows what it takes");
  if (options.data.empty()) throw RecipeError("data is required; `retort init --help` shows what it takes");
  const auto file =
      options.output.empty() ? fs::path(options.data).filename().stem().string() + ".yaml" : options.output;
  require_new(file);
  const auto model = options.model.empty() ? only_model() : options.model;
  require_model_path("--model", model);
  const auto look = look_at_source(options.data);
  const auto text = recipe_text(look, fit_to_model(look, model), model);
  parse_recipe(text, file);  // our own mistake, if it throws
  write_text(file, text);
  for (const auto& [key, reason] : look.reasons)
    fmt::print("{:<14}{}\n", key.empty() ? "records" : key, reason);
  if (!look.unused.empty()) fmt::print("{:<14}{}\n", "not used", fmt::join(look.unused, ", "));
  fmt::print("{} records; written: {}\nnext: retort check {}\n", look.records, printable(file),
             printable(file));
  return Exit::done;
}

}  // namespace

void add_init(CLI::App& app, Action& action) {
  auto* command =
      app.add_subcommand("init",
                         "Write a recipe for a file of records (looks at its columns, asks nothing), or of "
                         "another tool's recipe");
  auto options = std::make_shared<InitOptions>();
  command->add_option(
      "data", options->data,
      "a file of records, a folder of files, or a pattern; with --from instead of the data set "
      "that is named there");
  command->add_option(
      "--from", options->from,
      "translate this recipe of Axolotl, LLaMA-Factory or TRL instead; what has no counterpart "
      "is listed");
  command->add_option("--kind", options->kind,
                      "whose recipe it is: axolotl, llama-factory or trl; without it, its keys say so");
  command->add_option("--model,-m", options->model,
                      "the base to train: a .gguf file or a Hugging Face folder; without it, the only one in "
                      "checkpoints/, or the package's own");
  command->add_option("--output,-o", options->output,
                      "the recipe's file; without it, DATA's name with .yaml, or the other recipe's with "
                      "-retort.yaml");
  command->callback([options, &action] { action = [options] { return init(*options); }; });
}

}  // namespace retort
