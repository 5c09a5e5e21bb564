#include "run/stage_train.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "distill/on_policy.h"
#include "models/experts.h"
#include "ops/device_copies.h"
#include "report/progress.h"
#include "run/follow.h"
#include "run/run_stages.h"
#include "run/stage_distill.h"
#include "spec/print.h"
#include "train/state_bytes.h"
#include "train/train.h"

namespace retort {

namespace {

StageInputs train_inputs(Run& run) {
  auto inputs = run.sample_inputs();
  inputs.add("base", run.model_inputs().sha256())
      .add("adapter", print_spec(run.recipe().adapter))
      .add("train", print_spec(run.recipe().train.arithmetic()));
  if (!run.started_from().empty()) inputs.add("started from", run.started_from());
  if (run.recipe().distill) inputs.add("objective", objective_inputs(run.recipe()));
  return inputs;
}

TrainingResult result_of(Run& run, const StageResult<TrainingResult>& stage) {
  auto result = stage.values;
  result.inputs = stage.inputs;
  const double seconds = std::max(result.seconds, 1e-9);
  result.line = {
      "train",
      fmt::format("{} steps, loss {:.4g}{}, {:.0f} tokens/s, started in {:.2f} s", result.steps,
                  result.last_loss,
                  result.held_out_after ? fmt::format(", held out {:.4g}", *result.held_out_after) : "",
                  static_cast<double>(result.tokens) / seconds, result.startup_seconds),
      stage.seconds, stage.skipped};
  run.say(result.line);
  return result;
}

}  // namespace

Fingerprint training_fingerprint(Run& run) {
  Fingerprint all = {{"base model", run.model().sha256.get()},
                     {"model section", print_spec(run.recipe().model.arithmetic())},
                     {"adapter section", print_spec(run.recipe().adapter)}};
  if (!run.started_from().empty()) all.emplace_back("adapter that it starts from", run.started_from());
  if (run.recipe().distill) all.emplace_back("teacher", objective_inputs(run.recipe()));
  return all;
}

TrainJob training_job(Run& run, std::vector<std::string>& notes) {
  const auto& recipe = run.recipe();
  const auto leaves =
      start_adapter(run.model(), recipe.adapter, static_cast<uint64_t>(recipe.train.seed), &notes);
  run.keep_leaves(leaves);
  if (!recipe.adapter.from.empty())
    notes.push_back(
        fmt::format("The training started from the adapter {} (sha256 {}...), not from a fresh one.",
                    recipe.adapter.from, run.started_from().substr(0, 16)));
  const auto& dataset = run.dataset();
  const bool on_policy = recipe.distill && recipe.distill->on_policy;
  const auto taught = on_policy ? TaughtObjective{next_token_objective()} : objective_of(run);
  notes.insert(notes.end(), taught.notes.begin(), taught.notes.end());
  return {.model = *run.model().model,
          .trainables = leaves,
          .samples = dataset.train,
          .held_out = dataset.held_out,
          .objective = taught.objective,
          .compute = run.compute(),
          .folder = run.folder(),
          .fingerprint = training_fingerprint(run),
          .auxiliary = taught.auxiliary,
          .peers = run.peers(),
          // Of the next token alone, as of any other model: nats that can be compared.
          .measured = recipe.model.mtp ? std::optional(next_token_objective()) : std::nullopt};
}

double training_operations(const Model& model, double trained_weights, bool recompute, int64_t rows) {
  double working = static_cast<double>(model.config.vocabulary * model.config.hidden), all = working;
  for (const auto* layer : model.linears()) {
    const auto count = static_cast<double>(layer->weight.rows * layer->weight.columns);
    all += count;
    working += count * token_share(model.config, layer->place);
  }
  // An adapter's weights work beside those of the model; where every weight is trained, these are the same.
  const bool beside = trained_weights < 0.5 * all;
  const double each = 4 * (working + (beside ? trained_weights : 0)) +
                      2 * std::min(trained_weights, working) + (recompute ? 2 * working : 0);
  return each * static_cast<double>(rows);
}

namespace {

TrainingResult train_now(Run& run, double elsewhere) {
  const auto& recipe = run.recipe();
  const auto& model = *run.model().model;
  std::vector<std::string> notes;
  const auto job = training_job(run, notes);
  if (run.peers()) begin_training(run);
  uint64_t bytes = 0;
  for (const auto& leaf : job.trainables) bytes += leaf.tensor->nbytes();

  std::optional<Progress> progress;
  double startup = 0, held_out = 0;
  TrainWatch watch;
  watch.on_start = [&](int64_t done, int64_t steps) {
    startup = run.seconds_since_start() - elsewhere;
    progress.emplace("train", steps, "steps", done);
  };
  watch.on_step = [&](const StepRecord& step) {
    const auto speed = static_cast<double>(step.tokens) / std::max(step.seconds, 1e-9);
    progress->update(step.step,
                     fmt::format("loss {:.4f}{}  {:.0f} tokens/s", step.loss,
                                 held_out > 0 ? fmt::format("  held out {:.4f}", held_out) : "", speed));
  };
  watch.on_evaluation = [&](int64_t, double nats) { held_out = nats; };
  watch.on_note = [&](const std::string& text) {
    notes.push_back(text);
    if (progress) progress->note(text);
    else run.say("train", text);
  };
  watch.on_event = event_writer(run);
  const bool on_policy = recipe.distill && recipe.distill->on_policy;
  const auto result = on_policy ? train_in_rounds(run, job, watch, notes) : train(recipe.train, job, watch);
  if (result.resumed_inexactly)
    notes.push_back(
        "resumed on another machine, build or recipe (train.checkpoint.resume_inexact): an uninterrupted run "
        "would not have given the same bytes");
  if (result.stopped_early)
    notes.push_back(fmt::format("stopped early after {} of {} steps: the held-out loss no longer fell",
                                result.steps, result.planned));
  TrainingResult made;
  made.steps = result.steps, made.tokens = result.tokens, made.rows = result.rows;
  made.supervised = result.supervised, made.skipped = result.skipped;
  made.seconds = result.seconds, made.last_loss = result.last_loss, made.startup_seconds = startup;
  made.peak_bytes = result.peak_bytes, made.trainable_bytes = bytes;
  made.held_out_before = result.held_out_before, made.held_out_after = result.held_out_after;
  made.notes = std::move(notes);
  for (const auto* layer : model.linears())
    made.weights += static_cast<double>(layer->weight.rows * layer->weight.columns);
  made.weights +=
      static_cast<double>(model.config.vocabulary * model.config.hidden) * (model.config.tied_head ? 1 : 2);
  made.trained_weights = static_cast<double>(bytes) / 4;  // fp32
  made.operations = training_operations(model, made.trained_weights, recipe.train.recompute, result.rows);
  const auto there = device_room();
  made.device_bytes = there.held, made.device_travelling = there.travelling;
  if (!run.device().is_cpu()) run.say("device", describe(there));
  return made;
}

// What train() compares with the checkpoints of `folder`.
TrainJob job_to_compare(Run& run, const std::filesystem::path& folder, Fingerprint made_from) {
  const auto& dataset = run.dataset();
  return {*run.model().model, {},     dataset.train,       dataset.held_out, next_token_objective(),
          run.compute(),      folder, std::move(made_from)};
}

std::vector<std::filesystem::path> train_outputs(const Recipe& recipe) {
  if (recipe.distill && recipe.distill->on_policy)
    return {"trained.safetensors"};  // metrics are in the folders of the rounds
  return {"trained.safetensors", "metrics.jsonl"};
}

}  // namespace

namespace {

// The time is in the hash of a checkpoint's manifest, by way of state.json; the weights' own hash is what a
// replay gives again. A record is worth no training: what cannot be read now is not said.
void add_weights_hash(const std::filesystem::path& checkpoint, OrderedJson& facts) {
  try {
    facts["weights_sha256"] = weights_hash(checkpoint);
  } catch (const Error&) {}
}

}  // namespace

std::function<void(const TrainEvent&)> event_writer(Run& run) {
  return [&run](const TrainEvent& event) {
    OrderedJson facts = {{"step", event.step}};
    const auto inside = event.folder.lexically_relative(run.folder());
    if (inside != ".") facts["training"] = inside.string();
    if (!event.file.empty()) facts["file"] = (inside / event.file).lexically_normal().string();
    if (!event.sha256.empty()) facts["sha256"] = event.sha256;
    if (!event.batches.empty()) facts["batches_sha256"] = event.batches;
    if (event.loss) facts["nats_per_token"] = *event.loss;
    if (event.what == "checkpoint") add_weights_hash((event.folder / event.file).parent_path(), facts);
    run.events().add(event.what, std::move(facts));
  };
}

bool is_trained(Run& run) { return !run.trains() || run.ledger().done("train", train_inputs(run)); }

void require_continuable(Run& run) {
  const auto& recipe = run.recipe();
  if (!run.trains()) return;
  if (!is_trained(run)) {
    const auto job = job_to_compare(run, run.folder(), training_fingerprint(run));
    const bool on_policy = recipe.distill && recipe.distill->on_policy;
    if (on_policy) require_resumable_rounds(recipe.train, job);
    else require_resumable(recipe.train, job);
    if (recipe.distill && !on_policy && !recipe.teacher->live)
      TeacherOfRun(recipe, *run.model().tokenizer, run.chat(), run.dataset().train).require_own_cache();
  }
  if (const auto made_from = baseline_to_train(run))
    require_resumable(recipe.train, job_to_compare(run, run.folder() / kBaseline, *made_from));
}

TrainingResult train_model(Run& run, double elsewhere) {
  if (!run.trains()) {
    TrainingResult nothing;
    nothing.inputs = run.model_inputs().sha256();
    nothing.line = {"train", "nothing: adapter.kind is none", 0, true};
    return nothing;
  }
  const auto stage = run.ledger().run("train", train_inputs(run), train_outputs(run.recipe()), [&] {
    auto values = train_now(run, elsewhere);
    run.model_is_trained();
    return values;
  });
  return result_of(run, stage);
}

TrainingResult trained_model(Run& run) {
  if (!is_trained(run))
    throw RecipeError(fmt::format("{}: this recipe is not trained yet; `retort train {}` does that",
                                  run.folder().string(), run.loaded().file));
  return train_model(run, 0);
}

}  // namespace retort
