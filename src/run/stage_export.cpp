#include <algorithm>
#include <tuple>

#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "data/dataset.h"
#include "eval/task_source.h"
#include "export/compared_samples.h"
#include "models/own_templates.h"
#include "ops/workers.h"
#include "report/fidelity.h"
#include "run/export_list.h"
#include "run/run_stages.h"
#include "run/trained_system.h"
#include "spec/print.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kFolder = "export";

// What the opened file is against the trained model.
struct Comparison {
  std::optional<Agreement> agreement;  // where there are held-out samples
  int64_t prompts = 0, equal_prompts = 0;
  std::vector<TaskResult> tasks;
  template <class Visitor> void fields(Visitor& field) {
    field.rare("agreement", agreement);
    field("prompts", prompts);
    field("equal_prompts", equal_prompts);
    field("tasks", tasks);
  }
};

// What was written, read back as any user would.
LoadedModel reopen(Run& run, const Export& one) {
  ModelSpec spec = run.recipe().model;
  const auto path = run.folder() / one.path;
  if (one.whole_model) {
    spec.path = path.string();
    spec.weights = "keep";
    spec.add_tokens.clear(), spec.add_words.clear();  // they are the file's own now
    spec.mtp = false;                                 // what is compared is the next token
    auto whole = load_model(spec);
    whole.model->compute_on(run.device());
    return whole;
  }
  auto base = load_model(spec);
  load_adapter(base, path);
  base.model->compute_on(run.device());
  return base;
}

// Held-out prompts whose ids are equal under both tokenizers.
std::pair<int64_t, int64_t> equal_prompts(Run& run, const LoadedModel& other) {
  int64_t equal = 0, all = 0;
  const auto& chat = run.chat();
  for (const auto& record : run.dataset().held_out_records) {
    ++all;
    if (record.messages.empty())
      equal += run.model().tokenizer->encode(record.text) == other.tokenizer->encode(record.text);
    else
      equal += prompt_tokens(record, *run.model().tokenizer, chat) ==
               prompt_tokens(record, *other.tokenizer, chat);
  }
  return {equal, all};
}

Comparison compare(Run& run, const Export& one) {
  const auto& recipe = run.recipe();
  auto& trained = run.trained();
  const auto& dataset = run.dataset();
  auto opened = reopen(run, one);
  // Of a whole model what its file says, as for any other reader; an adapter is asked as the recipe says.
  const bool own = one.whole_model && !opened.chat_template_source.empty();
  const auto& chat = own ? choose_chat_template({}, own_templates(opened), *opened.tokenizer) : run.chat();
  if (chat.name != run.chat().name)
    throw Failure(fmt::format("{}: its chat template reads back as {}, the base has {}; please report it",
                              one.path.string(), chat.name, run.chat().name));

  const auto samples =
      dataset.held_out.list(0, samples_to_compare(recipe.exports, one.whole_model, dataset.held_out));
  Comparison values;
  if (!samples.empty()) {
    // fp32 on both sides: what is measured is the file, not the rounding of activations.
    values.agreement = compare_models({*trained.model, at::kFloat}, {*opened.model, at::kFloat},
                                      build_forests(samples, recipe.eval.pass_tokens), recipe.eval.threads);
  }
  std::tie(values.equal_prompts, values.prompts) = equal_prompts(run, opened);
  std::vector<TaskResult> tasks;
  if (one.whole_model && !recipe.eval.tasks.empty()) {
    const Subject subject{*opened.model, *opened.tokenizer, &chat, run.compute()};
    const auto base = base_losses(run);
    const HeldOut held_out = held_out_of(run, base);
    tasks = to_keep(recipe, evaluate(recipe.eval, recipe.data, subject, held_out,
                                     run.folder() / "eval" / one.name, [&](const std::string& task) {
                                       run.say(one.name, "evaluating " + task + " with the file ...");
                                     }));
    write_tasks(run.folder() / "eval" / (one.name + ".json"), tasks);
  }
  values.tasks = without_samples(std::move(tasks));
  return values;
}

ModelResult export_one(Run& run, const Export& one, const TrainingResult& training) {
  auto inputs = run.model_inputs();
  inputs.add("training", training.inputs).add("export", one.name).add("settings", one.settings);
  const auto written = run.ledger().run("export " + one.name, inputs, one.outputs, [&] {
    auto& trained = run.trained();
    if (run.recipe().data.names_template()) use_template(trained, run.chat());
    make_folder(run.folder() / kFolder);
    require_space(run.folder() / kFolder,
                  std::max(training.trainable_bytes, one.expected_bytes * parameters_of(*trained.model)));
    return one.write(trained, run.folder() / one.path);
  });
  ModelResult result;
  result.name = one.path.string();
  result.artefact = written.values;
  result.artefact->path = one.path;
  result.lines.push_back({"export",
                          fmt::format("{}: {}, {:.1f} MiB", result.name, result.artefact->label,
                                      static_cast<double>(result.artefact->bytes) / (1 << 20)),
                          written.seconds, written.skipped});
  run.say(result.lines.back());
  for (const auto& line : result.artefact->ignored) run.say("note", result.name + ": " + line);

  StageInputs comparison;
  comparison.add("artefact", run.ledger().outputs_hash("export " + one.name))
      .add("trained", training.inputs)
      .add("samples", run.sample_inputs().sha256())
      .add("model", run.model_inputs().sha256())
      .add("eval", print_spec(run.recipe().eval))
      .add("questions", task_files_hash(run.recipe().eval))
      .add("compare_samples",
           std::to_string(samples_to_compare(run.recipe().exports, one.whole_model, run.dataset().held_out)));
  add_privacy(run.recipe(), comparison);
  add_base_losses(run, comparison);
  const auto compared =
      run.ledger().run("compare " + one.name, comparison,
                       {fs::path("eval") / (one.name + ".json"), fs::path("eval") / one.name},
                       [&] { return compare(run, one); });
  result.agreement = compared.values.agreement;
  result.prompts = compared.values.prompts, result.equal_prompts = compared.values.equal_prompts;
  result.tasks = compared.values.tasks;
  if (!result.tasks.empty()) result.answers = fs::path("eval") / (one.name + ".json");
  std::string what = result.name + ": ";
  if (result.agreement)
    what += fmt::format("KL {:.2e} nats a token, top-1 {:.1f} % ({}), ", result.agreement->kl_nats,
                        100 * result.agreement->top1,
                        fidelity_of(result.agreement->kl_nats, result.agreement->top1));
  what += fmt::format("{} of {} prompts tokenize alike", result.equal_prompts, result.prompts);
  if (!result.tasks.empty()) what += ", " + headlines(result.tasks);
  result.lines.push_back({"reopen", what, compared.seconds, compared.skipped});
  run.say(result.lines.back());
  return result;
}

}  // namespace

std::vector<ModelResult> export_models(Run& run, const TrainingResult& training,
                                       std::vector<StageFailure>& failures) {
  std::vector<ModelResult> results;
  const auto& recipe = run.recipe();
  const auto system = trained_system(recipe.data, run.dataset().held_out_records, recipe.is_private);
  for (const auto& one :
       exports_of(recipe.exports, recipe.adapter, kFolder, usable_threads(recipe.train.threads), system))
    attempt(run, one.path.string(), failures, [&] { results.push_back(export_one(run, one, training)); });
  return results;
}

}  // namespace retort
