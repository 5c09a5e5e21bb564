#include "cli/stage_distill.h"

#include "adapters/attach.h"
#include "base/error.h"
#include "base/hash.h"
#include "cli/teacher.h"
#include "data/dataset.h"
#include "distill/on_policy.h"
#include "distill/prune.h"
#include "ops/workers.h"
#include "recipe/print.h"
#include "report/metrics.h"
#include "report/progress.h"
#include "train/train.h"

namespace retort {

namespace {

constexpr const char* kBaseline = "ce-only";   // folder of the run

StageInputs baseline_inputs(Run& run) {
  auto inputs = run.sample_inputs();
  auto train = run.recipe().train;
  train.checkpoint = {};
  inputs.add("base", run.model_inputs().sha256()).add("adapter", print_spec(run.recipe().adapter)).add("train", print_spec(train)).add("objective", "cross-entropy");
  return inputs;
}

std::vector<NamedTensor> attach_leaves(Run& run, LoadedModel& student) {
  return attach(*student.model, run.recipe().adapter, static_cast<uint64_t>(run.recipe().train.seed));
}

StageLine train_baseline(Run& run) {
  const auto folder = std::filesystem::path(kBaseline);
  const auto stage = run.ledger().run("train ce-only", baseline_inputs(run), {folder / "trained.safetensors"}, [&] {
    auto student = load_student(run.recipe());
    const auto leaves = attach_leaves(run, student);
    std::optional<Progress> progress;
    TrainWatch watch;
    watch.on_start = [&](int64_t done, int64_t steps) { progress.emplace("ce-only", steps, "steps", done); };
    watch.on_step = [&](const StepRecord& step) { progress->update(step.step, fmt::format("loss {:.4f}", step.loss)); };
    const auto& dataset = run.dataset();
    const Fingerprint fingerprint = {{"model", student.sha256}, {"inputs", baseline_inputs(run).sha256()}};
    const TrainJob job{*student.model, leaves, dataset.train, dataset.held_out, next_token_objective(), run.compute(), run.folder() / folder, fingerprint};
    const auto result = train(run.recipe().train, job, watch);
    return Json{{"steps", result.steps}, {"last_loss", result.last_loss}, {"tokens", result.tokens}, {"seconds", result.seconds}, {"peak_bytes", result.peak_bytes}};
  });
  StageLine line{"ce-only", fmt::format("{} steps, loss {:.4g}, {:.0f} tokens/s", stage.values.at("steps").get<int64_t>(), stage.values.at("last_loss").get<double>(),
                                        stage.values.at("tokens").get<double>() / std::max(stage.values.at("seconds").get<double>(), 1e-9)),
                 stage.seconds, stage.skipped};
  run.say(line);
  return line;
}

Json to_json(const Quality& quality) {
  return {{"rows", quality.rows}, {"forward_kl", quality.forward_kl}, {"reverse_kl", quality.reverse_kl}, {"top1", quality.top1}, {"top5", quality.top5},
          {"acceptance", quality.acceptance}, {"calibration_error", quality.calibration_error}, {"nats", quality.nats}, {"bits_per_byte", quality.bits_per_byte}};
}
Quality quality_from(const Json& json) {
  return {json.at("rows"), json.at("forward_kl"), json.at("reverse_kl"), json.at("top1"), json.at("top5"), json.at("acceptance"), json.at("calibration_error"), json.at("nats"), json.at("bits_per_byte")};
}

}  // namespace

LoadedModel load_student(const Recipe& recipe) {
  auto source = load_model(recipe.model);
  if (!recipe.prune) return source;
  if (recipe.prune->vocabulary) throw RecipeError("prune.vocabulary: the samples are tokenized before the cut; write the trimmed model with `retort prune` and name it in model.path");
  if (recipe.adapter.low_rank())
    throw RecipeError("adapter.kind: an adapter for a student that is cut at start would have no base on disk; use full, or write the student with `retort prune`");
  const auto& spec = *recipe.prune;
  const bool measured = spec.rank_layers == "influence" || spec.intermediate > 0 || spec.kv_heads > 0 || spec.hidden > 0;
  std::vector<Sample> samples;
  if (measured) samples = build_dataset(recipe.data, *source.tokenizer, choose_chat_template(recipe.data.chat_template, source.chat_template_source)).train;
  return prune(source, at::kFloat, spec, samples, usable_threads(recipe.train.threads)).model;
}

std::string objective_inputs(const Recipe& recipe) {
  if (!recipe.distill) return "";
  auto teacher = *recipe.teacher;
  teacher.cache.clear();   // where it is kept changes nothing
  teacher.threads = 0;
  std::string text = print_spec(*recipe.distill) + print_spec(teacher);
  if (!teacher.url.empty()) {   // how it was asked changes nothing
    teacher.server = {.model = teacher.server.model};
    return print_spec(*recipe.distill) + print_spec(teacher);
  }
  for (const auto& file : model_files(teacher.path)) text += file.filename().string() + " " + sha256_file(file) + "\n";
  return text;
}

Objective objective_of(Run& run) {
  if (!run.recipe().distill) return next_token_objective();
  TeacherOfRun teacher(run.recipe(), *run.model().tokenizer, run.chat(), run.dataset().train);
  if (!run.recipe().teacher->live) run.say("teacher", teacher.complete());
  return teacher.objective();
}

TrainResult train_in_rounds(Run& run, const TrainJob& job, const TrainWatch& watch, std::vector<std::string>& notes) {
  const auto& recipe = run.recipe();
  const auto& tokenizer = *run.model().tokenizer;
  const auto teacher = load_teacher(*recipe.teacher, tokenizer, job.folder / "round-00" / "teacher");
  const OnPolicyJob rounds{job, tokenizer, stop_rules(run.model().model->config, tokenizer, &run.chat(), {}), teacher, identity_of(*recipe.teacher, teacher, run.chat(), recipe.distill->temperature)};
  return train_on_policy(recipe.train, *recipe.distill, *recipe.teacher, rounds, watch, [&](const OnPolicyRound& round) {
    notes.push_back(fmt::format("round {}: {} answers of {} tokens in {:.0f} s, {} positions graded in {:.0f} s by one pass over {} of teacher weights, trained in {:.0f} s", round.round, round.answers,
                                round.answer_tokens, round.seconds_answering, round.positions, round.seconds_grading, bytes(round.teacher_bytes), round.seconds_training));
    run.say("round", notes.back());
  }).train;
}

DistillResult compare_with_teacher(Run& run, const std::string& training) {
  DistillResult result;
  const auto& recipe = run.recipe();
  if (!recipe.distill) return result;
  if (!recipe.teacher->url.empty()) {
    result.lines.push_back({"agreement", "not measured: the teacher is behind a server (eval.tasks measures the student)", 0, true});
    run.say(result.lines.back());
    return result;
  }
  const bool baseline = recipe.distill->baseline && run.trains();
  if (baseline) result.lines.push_back(train_baseline(run));
  auto inputs = run.sample_inputs();
  inputs.add("objective", objective_inputs(recipe)).add("training", training).add("baseline", baseline ? baseline_inputs(run).sha256() : "");
  const auto stage = run.ledger().run("compare with teacher", inputs, {}, [&] {
    run.say("teacher", "comparing with the students ...");
    std::vector<std::pair<std::string, LoadedModel>> students;
    students.emplace_back("base", load_student(run.recipe()));
    if (baseline) {
      students.emplace_back("ce-only", load_student(run.recipe()));
      load_trained(run.folder() / kBaseline, attach_leaves(run, students.back().second));
    }
    if (run.trains()) {
      students.emplace_back("distilled", load_student(run.recipe()));
      load_trained(run.folder(), attach_leaves(run, students.back().second));
    }
    const auto& tokenizer = *run.model().tokenizer;
    const auto teacher = load_teacher(*recipe.teacher, tokenizer, TeacherOfRun(recipe, tokenizer, run.chat(), run.dataset().train).cache_folder());
    std::vector<Student> measured;
    for (const auto& [name, student] : students) measured.push_back({*student.model, run.compute()});
    const auto qualities = measure_quality({*teacher.loaded.model, teacher.compute}, measured, build_forests(run.dataset().held_out, recipe.eval.row_tokens), tokenizer, teacher.vocabulary, recipe.eval.threads);
    Json values = Json::array();
    for (size_t i = 0; i < qualities.size(); ++i) values.push_back({{"name", i < students.size() ? students[i].first : "teacher"}, {"quality", to_json(qualities[i])}});
    return Json{{"models", values}};
  });
  for (const auto& model : stage.values.at("models")) result.models.emplace_back(model.at("name").get<std::string>(), quality_from(model.at("quality")));
  std::string what;
  for (const auto& [name, quality] : result.models)
    if (name != "teacher") what += fmt::format("{}{}: KL {:.4f}, top-1 {:.1f} %", what.empty() ? "" : "; ", name, quality.forward_kl, 100 * quality.top1);
  result.lines.push_back({"agreement", what, stage.seconds, stage.skipped});
  run.say(result.lines.back());
  return result;
}

Table distill_table(const DistillResult& result) {
  Table table{"What is left of the teacher", "On the supervised tokens of the held-out samples. KL in nats a token; accepted: expected tokens a teacher pass gives with four drafted by the student.",
              {"model", "KL(t||s)", "KL(s||t)", "top-1", "top-5", "accepted", "calibration error", "perplexity", "bits/byte"}, {}};
  for (const auto& [name, q] : result.models)
    table.rows.push_back({name, fmt::format("{:.4f}", q.forward_kl), fmt::format("{:.4f}", q.reverse_kl), fmt::format("{:.1f} %", 100 * q.top1), fmt::format("{:.1f} %", 100 * q.top5),
                          fmt::format("{:.2f}", q.acceptance_length()), fmt::format("{:.3f}", q.calibration_error), fmt::format("{:.3f}", q.perplexity()), fmt::format("{:.3f}", q.bits_per_byte)});
  return table;
}

Chart distill_chart(const std::filesystem::path& run_folder) {
  Chart chart{"Held-out cross-entropy", "nats per token, by step", {}, false};
  for (const auto& [name, file] : {std::pair{"distilled", run_folder / "metrics.jsonl"}, std::pair{"cross-entropy only", run_folder / kBaseline / "metrics.jsonl"}}) {
    Series series{name, {}, false};
    for (const auto& row : read_metrics(file))
      for (const auto& [key, value] : row.scalars)
        if (key == "held_out_loss") series.points.emplace_back(static_cast<double>(row.step), value);
    if (series.points.size() > 1) chart.series.push_back(std::move(series));
  }
  return chart;
}

}  // namespace retort
