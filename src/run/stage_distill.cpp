#include "run/stage_distill.h"

#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "data/dataset.h"
#include "distill/on_policy.h"
#include "models/own_templates.h"
#include "ops/device.h"
#include "ops/workers.h"
#include "report/metrics.h"
#include "report/progress.h"
#include "run/word.h"
#include "spec/print.h"
#include "student/prune.h"
#include "train/train.h"

namespace retort {

namespace {

StageInputs baseline_inputs(Run& run) {
  auto inputs = run.sample_inputs();
  inputs.add("base", run.model_inputs().sha256())
      .add("adapter", print_spec(run.recipe().adapter))
      .add("train", print_spec(run.recipe().train.arithmetic()))
      .add("objective", "cross-entropy");
  if (!run.started_from().empty()) inputs.add("started from", run.started_from());
  return inputs;
}

Fingerprint baseline_fingerprint(Run& run, const LoadedModel& student) {
  return {{"model", student.sha256.get()}, {"inputs", baseline_inputs(run).sha256()}};
}

std::vector<NamedTensor> attach_leaves(Run& run, LoadedModel& student) {
  return start_adapter(student, run.recipe().adapter, static_cast<uint64_t>(run.recipe().train.seed));
}

struct BaselineTraining {
  int64_t steps = 0, tokens = 0;
  double last_loss = 0, seconds = 0;
  uint64_t peak_bytes = 0;
  template <class Visitor> void fields(Visitor& field) {
    field("steps", steps);
    field("last_loss", last_loss);
    field("tokens", tokens);
    field("seconds", seconds);
    field("peak_bytes", peak_bytes);
  }
};

StageLine train_baseline(Run& run) {
  const auto folder = std::filesystem::path(kBaseline);
  const auto stage =
      run.ledger().run("train ce-only", baseline_inputs(run), {folder / "trained.safetensors"}, [&] {
        auto student = load_student(run.recipe());
        const auto leaves = attach_leaves(run, student);
        std::optional<Progress> progress;
        TrainWatch watch;
        watch.on_start = [&](int64_t done, int64_t steps) {
          progress.emplace("ce-only", steps, "steps", done);
        };
        watch.on_step = [&](const StepRecord& step) {
          progress->update(step.step, fmt::format("loss {:.4f}", step.loss));
        };
        watch.on_event = event_writer(run);
        watch.on_note = [&](const std::string& text) {
          if (progress) progress->note(text);
          else run.say("ce-only", text);
        };
        const auto& dataset = run.dataset();
        const auto fingerprint = baseline_fingerprint(run, student);
        const TrainJob job{*student.model,         leaves,        dataset.train,         dataset.held_out,
                           next_token_objective(), run.compute(), run.folder() / folder, fingerprint};
        const auto result = train(run.recipe().train, job, watch);
        return BaselineTraining{result.steps, result.tokens, result.last_loss, result.seconds,
                                result.peak_bytes};
      });
  const auto& made = stage.values;
  StageLine line{"ce-only",
                 fmt::format("{} steps, loss {:.4g}, {:.0f} tokens/s", made.steps, made.last_loss,
                             static_cast<double>(made.tokens) / std::max(made.seconds, 1e-9)),
                 stage.seconds, stage.skipped};
  run.say(line);
  return line;
}

}  // namespace

std::optional<Fingerprint> baseline_to_train(Run& run) {
  const auto& recipe = run.recipe();
  const bool trains_one = recipe.distill && recipe.distill->baseline && recipe.teacher->at_hand();
  if (!trains_one || run.ledger().done("train ce-only", baseline_inputs(run))) return std::nullopt;
  return baseline_fingerprint(run, run.model());
}

namespace {

LoadedModel load_and_cut(const Recipe& recipe, AdapterNotes* notes) {
  auto source = load_model(recipe.model);
  source.sha256.begin();
  if (const auto& adapters = recipe.adapter.merge; !adapters.empty()) {
    // Beside weights that nobody trains or cuts they cost nothing, and exports round once.
    const bool beside = recipe.adapter.kind == "none" && !recipe.prune;
    auto told = beside ? load_adapters(source, adapters) : merge_into_base(source, adapters);
    if (notes) *notes = std::move(told);
  }
  if (!recipe.prune) return source;
  if (recipe.prune->vocabulary)
    throw RecipeError(
        "prune.vocabulary: the samples are tokenized before the cut; write the trimmed model with `retort "
        "prune` and name it in model.path");
  if (recipe.adapter.low_rank())
    throw RecipeError(
        "adapter.kind: an adapter for a student that is cut at start would have no base on disk; use full, "
        "or write the student with `retort prune`");
  const auto& spec = *recipe.prune;
  Samples samples;
  if (spec.measures())
    samples = build_dataset(recipe.data, *source.tokenizer,
                            choose_chat_template(recipe.data.wanted_template(), own_templates(source),
                                                 *source.tokenizer))
                  .train;
  return prune(source, at::kFloat, spec, samples, usable_threads(recipe.train.threads)).model;
}

}  // namespace

LoadedModel load_student(const Recipe& recipe, AdapterNotes* notes) {
  const auto device =
      open_device(recipe.device, recipe.device_memory);  // what is missing is told before anything is read
  require_model_path("model.path: " + printable(recipe.model.path), recipe.model.path);
  auto student = load_and_cut(recipe, notes);
  student.model->compute_on(device);
  return student;
}

LoadedModel load_for_tokens(const Recipe& recipe) {
  return recipe.prune && !recipe.prune->tokenizer.empty() ? load_student(recipe) : load_model(recipe.model);
}

std::string objective_inputs(const Recipe& recipe) {
  if (!recipe.distill) return "";
  auto teacher = *recipe.teacher;
  teacher.cache.clear();  // where it is kept changes nothing
  teacher.threads = 0;
  teacher.schedule = "auto", teacher.memory = "", teacher.scratch = "";
  teacher.distillkit.clear();
  if (!teacher.url.empty())
    teacher.server = {.model = teacher.server.model};  // how it was asked changes nothing
  auto distill = *recipe.distill;
  distill.own_answers = {};  // nobody learns from them
  std::string text = print_spec(distill) + print_spec(teacher);
  if (!recipe.teacher->distillkit.empty())
    return text + distillkit_files(recipe.teacher->distillkit, teacher_cache_folder(recipe));
  if (!teacher.url.empty()) return text;
  for (const auto& file : model_files(teacher.path))
    text += file.filename().string() + " " + sha256_file(file) + "\n";
  return text;
}

TaughtObjective objective_of(Run& run) {
  const auto& recipe = run.recipe();
  if (!recipe.distill && recipe.model.mtp) return {two_token_objective(recipe.train.mtp_weight)};
  if (!recipe.distill) return {next_token_objective()};
  TeacherOfRun teacher(run.recipe(), *run.model().tokenizer, run.chat(), run.dataset().train);
  if (auto* peers = run.peers()) teacher.share_with(*peers, [peers] { say(*peers, Word::teach); });
  if (!run.recipe().teacher->live) run.say("teacher", teacher.complete());
  auto taught = teacher.objective(run.model().model->config);
  for (const auto& note : taught.notes) run.say("teacher", note);
  return taught;
}

TrainResult train_in_rounds(Run& run, const TrainJob& job, const TrainWatch& watch,
                            std::vector<std::string>& notes) {
  const auto& recipe = run.recipe();
  const auto& tokenizer = *run.model().tokenizer;
  const auto teacher = load_teacher(*recipe.teacher, job.folder / "round-00" / "teacher", run.device());
  teacher.loaded.sha256.begin();
  require_same_tokens(*teacher.loaded.tokenizer, tokenizer);
  const OnPolicyJob rounds{job, tokenizer, stop_rules(run.model().model->config, tokenizer, &run.chat(), {}),
                           teacher,
                           identity_of(*recipe.teacher, teacher, run.chat(), recipe.distill->temperature)};
  return train_on_policy(
             {recipe.train, *recipe.distill, *recipe.teacher}, rounds, watch,
             [&](const OnPolicyRound& round) {
               notes.push_back(fmt::format(
                   "round {}: {} answers of {} tokens in {:.0f} s, {} positions graded in {:.0f} s by one "
                   "pass over {} of teacher weights, trained in {:.0f} s",
                   round.round, round.answers, round.answer_tokens, round.seconds_answering, round.positions,
                   round.seconds_grading, bytes(round.teacher_bytes), round.seconds_training));
               run.say("round", notes.back());
             })
      .train;
}

namespace {

LoadedModel trained_student(Run& run, const std::filesystem::path& folder) {
  auto student = load_student(run.recipe());
  load_trained(folder, attach_leaves(run, student));
  return student;
}

// The models that no other stage measures by the recipe's tasks.
ModelResult evaluate_baseline(Run& run) {
  std::optional<LoadedModel> student;
  auto inputs = run.model_inputs();
  inputs.add("training", baseline_inputs(run).sha256());
  return evaluate_model(run, {kBaseline, inputs, [&]() -> Subject {
                                student = trained_student(run, run.folder() / kBaseline);
                                return {*student->model, *student->tokenizer, &run.chat(), run.compute()};
                              }});
}

ModelResult evaluate_teacher(Run& run) {
  std::optional<TeacherOfRun> teacher;
  auto inputs = run.sample_inputs();
  inputs.add("teacher", objective_inputs(run.recipe()));
  return evaluate_model(
      run, {"teacher", inputs,
            [&]() -> Subject {
              teacher.emplace(run.recipe(), *run.model().tokenizer, run.chat(), run.dataset().train);
              const auto& asked = teacher->teacher();
              return {*asked.loaded.model, *asked.loaded.tokenizer, &teacher->chat(), asked.compute};
            },
            [&]() -> HeldOut {
              if (!teacher->other_tokens()) return {run.dataset().held_out, run.dataset().held_out_records};
              return {teacher->dataset().held_out, teacher->dataset().held_out_records};
            }});
}

// The first prompts of held-out samples after which both models have room for an answer.
std::vector<std::vector<int32_t>> prompts_to_answer(Run& run, const ModelConfig& student,
                                                    const ModelConfig& teacher) {
  const auto& spec = run.recipe().distill->own_answers;
  SampleSpec answer;
  answer.max_tokens = spec.max_tokens;
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& record : run.dataset().held_out_records) {
    if (static_cast<int64_t>(prompts.size()) == spec.count) break;
    if (record.messages.empty()) continue;  // a text has no prompt
    auto prompt = prompt_tokens(record, *run.model().tokenizer, run.chat());
    const auto room = [&](const ModelConfig& config) {
      return answer_room(config, prompt.size(), answer) == spec.max_tokens;
    };
    if (!prompt.empty() && room(student) && room(teacher)) prompts.push_back(std::move(prompt));
  }
  return prompts;
}

// Of the stage in the ledger.
struct ComparedModels {
  std::vector<DistilledModel> models;
  template <class Visitor> void fields(Visitor& field) { field("models", models); }
};

ComparedModels compare_now(Run& run, bool baseline) {
  const auto& recipe = run.recipe();
  run.say("teacher", "comparing with the students ...");
  std::vector<std::pair<std::string, LoadedModel>> students;
  students.emplace_back("base", load_student(recipe));
  if (baseline) students.emplace_back(kBaseline, trained_student(run, run.folder() / kBaseline));
  if (run.trains()) students.emplace_back("distilled", trained_student(run, run.folder()));
  const auto& tokenizer = *run.model().tokenizer;
  TeacherOfRun asked(recipe, tokenizer, run.chat(), run.dataset().train);
  const auto& loaded = asked.teacher();
  const ComputedModel teacher{*loaded.loaded.model, loaded.compute};
  std::vector<ComputedModel> measured;
  for (const auto& [name, student] : students) measured.push_back({*student.model, run.compute()});
  const auto measure = [&](const ComputedModel* with, const std::vector<ComputedModel>& models,
                           const Samples& samples, const Tokenizer& tokens) {
    return measure_quality(with, models, build_forests(samples.list(), recipe.eval.pass_tokens),
                           {tokens, tokens.size(), recipe.eval.threads});
  };
  auto qualities =
      measure(asked.other_tokens() ? nullptr : &teacher, measured, run.dataset().held_out, tokenizer);
  if (asked.other_tokens())
    qualities.push_back(
        measure(nullptr, {teacher}, asked.dataset().held_out, *loaded.loaded.tokenizer).front());
  ComparedModels compared;
  for (size_t i = 0; i < qualities.size(); ++i)
    compared.models.push_back(
        {i < students.size() ? students[i].first : "teacher", qualities[i], std::nullopt, {}});
  if (asked.other_tokens()) return compared;
  const auto prompts = prompts_to_answer(run, students[0].second.model->config, teacher.model.config);
  if (prompts.empty()) return compared;
  run.say("teacher", fmt::format("comparing on {} answers of each student ...", prompts.size()));
  const Answering answering{tokenizer,
                            stop_rules(students[0].second.model->config, tokenizer, &run.chat(), {}),
                            {.threads = recipe.eval.threads, .batch = recipe.eval.batch},
                            static_cast<uint64_t>(recipe.train.seed)};
  for (size_t i = 0; i < measured.size(); ++i) {
    const auto answers = own_answers(recipe.distill->own_answers, measured[i], prompts, answering);
    compared.models[i].own = measure_own_answers(teacher, measured[i], answers,
                                                 {tokenizer, tokenizer.usable_ids(), recipe.eval.threads});
  }
  return compared;
}

}  // namespace

DistillResult compare_with_teacher(Run& run, const TrainingResult& training, const ModelResult& base,
                                   const ModelResult& tuned) {
  DistillResult result;
  const auto& recipe = run.recipe();
  if (!recipe.distill) return result;
  if (!recipe.teacher->at_hand()) {
    result.lines.push_back(
        {"agreement",
         fmt::format("not measured: the teacher {} (eval.tasks measures the student)",
                     recipe.teacher->url.empty() ? "is known by what DistillKit kept" : "is behind a server"),
         0, true});
    run.say(result.lines.back());
    return result;
  }
  const bool baseline = recipe.distill->baseline && run.trains();
  std::map<std::string, std::vector<TaskResult>> tasks = {{"base", base.tasks}, {"distilled", tuned.tasks}};
  const auto measured = [&](const ModelResult& model) {
    tasks[model.name] = model.tasks;
    result.lines.insert(result.lines.end(), model.lines.begin(), model.lines.end());
  };
  if (baseline) {
    result.lines.push_back(train_baseline(run));
    measured(evaluate_baseline(run));
  }
  measured(evaluate_teacher(run));
  auto inputs = run.sample_inputs();
  inputs.add("objective", objective_inputs(recipe))
      .add("training", training.inputs)
      .add("baseline", baseline ? baseline_inputs(run).sha256() : "")
      .add("own answers", print_spec(recipe.distill->own_answers));
  const auto stage =
      run.ledger().run("compare with teacher", inputs, {}, [&] { return compare_now(run, baseline); });
  result.models = stage.values.models;
  for (auto& model : result.models) model.tasks = tasks[model.name];
  std::string what;
  for (const auto& [name, quality, own, scores] : result.models)
    if (name != "teacher")
      what += (what.empty() ? "" : "; ") + name +
              (quality.compared
                   ? fmt::format(": KL {:.4f}, top-1 {:.1f} %", quality.forward_kl, 100 * quality.top1)
                   : fmt::format(": {:.3f} bits/byte", quality.bits_per_byte));
  if (recipe.distill->own_answers.count > 0 && result.models[0].quality.compared && !result.models[0].own)
    what += "; on own answers not compared: no held-out sample has a prompt with room for one";
  result.lines.push_back({"agreement", what, stage.seconds, stage.skipped});
  run.say(result.lines.back());
  return result;
}

namespace {

// What the tasks are judged by, and of answers the share of right first lines too; perplexity stands in the
// table already, and what is given away of the training samples in one of its own.
std::vector<Headline> task_columns(const TaskResult& task) {
  if (task.kind == "perplexity" && task.task == task.kind) return {};
  if (looks_at_training(task)) return {};
  std::vector<Headline> columns = {headline(task)};
  if (task.kind == "completion") columns.push_back({"first_line", "first line", true});
  if (task.task != task.kind)
    for (auto& column : columns) column.title = task.task + " " + column.title;
  return columns;
}

}  // namespace

Table distill_table(const DistillResult& result) {
  Table table{"What is left of the teacher",
              "On the supervised tokens of the held-out samples. KL in nats a token; accepted: expected "
              "tokens a teacher pass gives with four drafted by the student.",
              {"model", "KL(t||s)", "KL(s||t)"},
              {}};
  const bool own_answers = !result.models.empty() && result.models[0].own;
  if (own_answers) {
    table.head.push_back("KL(s||t) own");
    table.note +=
        fmt::format(" Own: on the tokens of {} answers to held-out prompts that each student sampled itself.",
                    result.models[0].own->answers);
  }
  for (const auto* title : {"top-1", "top-5", "accepted", "calibration error", "perplexity", "bits/byte"})
    table.head.emplace_back(title);
  if (!result.models.empty())
    for (const auto& task : result.models[0].tasks)
      for (const auto& column : task_columns(task)) table.head.push_back(column.title);
  for (const auto& [name, q, own, tasks] : result.models) {
    std::vector<std::string> row = {name};
    const auto compared = [&row, said = q.compared](std::string text) {
      row.push_back(said ? std::move(text) : "-");
    };
    compared(fmt::format("{:.4f}", q.forward_kl));
    compared(fmt::format("{:.4f}", q.reverse_kl));
    if (own_answers) row.push_back(own ? fmt::format("{:.4f}", own->reverse_kl) : "-");
    compared(fmt::format("{:.1f} %", 100 * q.top1));
    compared(fmt::format("{:.1f} %", 100 * q.top5));
    compared(fmt::format("{:.2f}", q.acceptance_length()));
    for (const auto value : {q.calibration_error, q.perplexity(), q.bits_per_byte})
      row.push_back(fmt::format("{:.3f}", value));
    for (const auto& task : tasks)
      for (const auto& column : task_columns(task)) {
        const auto* value = task.metric(column.metric);
        row.push_back(!value         ? "-"
                      : column.share ? fmt::format("{:.1f} %", 100 * *value)
                                     : fmt::format("{:.4g}", *value));
      }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Chart distill_chart(const std::filesystem::path& run_folder, const DistillResult& result) {
  Chart chart{"Held-out cross-entropy", "nats per token, by step", {}, false};
  for (const auto& [name, file] :
       {std::pair{"distilled", run_folder / "metrics.jsonl"},
        std::pair{"cross-entropy only", run_folder / kBaseline / "metrics.jsonl"}}) {
    Series series{name, {}, false};
    for (const auto& row : read_metrics(file))
      for (const auto& [key, value] : row.scalars)
        if (key == "held_out_loss") series.points.emplace_back(static_cast<double>(row.step), value);
    if (series.points.size() > 1) chart.series.push_back(std::move(series));
  }
  if (chart.series.empty()) return chart;
  const double last = chart.series[0].points.back().first;
  for (const auto& model : result.models)
    if (model.name == "base" ||
        (model.name == "teacher" &&
         result.models[0].quality.compared))  // nats a token of other tokens are another unit
      chart.series.push_back({model.name == "base" ? "student before training" : "teacher",
                              {{0, model.quality.nats}, {last, model.quality.nats}},
                              false});
  return chart;
}

}  // namespace retort
