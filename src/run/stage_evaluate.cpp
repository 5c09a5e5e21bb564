#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/hash.h"
#include "eval/answer_cost.h"
#include "eval/company.h"
#include "eval/task_source.h"
#include "run/follow.h"
#include "run/run_stages.h"
#include "run/word.h"
#include "spec/print.h"

namespace retort {

namespace {

// Of a stage in the ledger.
struct Tasks {
  std::vector<TaskResult> tasks;
  template <class Visitor> void fields(Visitor& field) { field("tasks", tasks); }
};

// Empty where no task asks for it, or nothing is there.
std::filesystem::path file_of_base_losses(const Run& run) {
  const auto& tasks = run.recipe().eval.tasks;
  const auto file = run.folder() / "eval" / "base.json";
  const bool asked =
      std::ranges::any_of(tasks, [](const EvalTaskSpec& task) { return task.kind == "membership"; });
  return asked && std::filesystem::exists(file) ? file : std::filesystem::path();
}

Subject subject_of(Run& run, LoadedModel& loaded) {
  return {*loaded.model, *loaded.tokenizer, &run.chat(), run.compute()};
}

// The other ranks, which hold the same model.
std::optional<Company> company_of(Run& run) {
  auto* peers = run.peers();
  if (!peers) return std::nullopt;
  return Company{*peers, [peers] { say(*peers, Word::score); }};
}

}  // namespace

std::vector<TaskResult> base_losses(const Run& run) {
  const auto file = file_of_base_losses(run);
  return file.empty() ? std::vector<TaskResult>() : read_tasks(file);
}

void add_base_losses(const Run& run, StageInputs& inputs) {
  if (const auto file = file_of_base_losses(run); !file.empty()) inputs.add("base losses", sha256_file(file));
}

HeldOut held_out_of(Run& run, const std::vector<TaskResult>& base) {
  const auto& dataset = run.dataset();
  return {dataset.held_out, dataset.held_out_records, dataset.train, base.empty() ? nullptr : &base};
}

ModelResult evaluate_model(Run& run, const Evaluated& what) {
  const auto& name = what.name;
  ModelResult result;
  result.name = name;
  const auto& spec = run.recipe().eval;
  if (spec.tasks.empty()) return result;
  const auto folder = std::filesystem::path("eval"), file = folder / (name + ".json");
  auto inputs = what.inputs;
  inputs.add("samples", run.sample_inputs().sha256())
      .add("eval", print_spec(spec))
      .add("questions", task_files_hash(spec));
  add_privacy(run.recipe(), inputs);
  const bool calibrated = name != "base" && !what.held_out;  // the base itself, and a teacher, are not
  if (calibrated) add_base_losses(run, inputs);
  const auto stage = run.ledger().run("evaluate " + name, inputs, {file, folder / name}, [&] {
    const auto subject = what.load();
    if (const auto cost = describe_answers(spec, subject, run.recipe().model.path); !cost.empty())
      run.say(name, cost);
    const auto base = calibrated ? base_losses(run) : std::vector<TaskResult>();
    const HeldOut held_out = what.held_out ? what.held_out() : held_out_of(run, base);
    const auto tasks =
        to_keep(run.recipe(),
                evaluate(spec, run.recipe().data, subject, held_out, run.folder() / folder / name,
                         [&](const std::string& task) { run.say(name, "evaluating " + task + " ..."); }));
    write_tasks(run.folder() / file, tasks);
    return Tasks{without_samples(tasks)};
  });
  result.tasks = stage.values.tasks;
  result.answers = file;
  result.lines.push_back({name, headlines(result.tasks), stage.seconds, stage.skipped});
  run.say(result.lines.back());
  return result;
}

ModelResult evaluate_base(Run& run) {
  const auto company = company_of(run);
  return evaluate_model(run, {"base", run.model_inputs(), [&] {
                                auto subject = subject_of(run, run.model());
                                if (company) subject.company = &*company;
                                return subject;
                              }});
}

ModelResult evaluate_tuned(Run& run, const TrainingResult& training) {
  auto inputs = run.model_inputs();
  inputs.add("training", training.inputs);
  const auto company = company_of(run);
  return evaluate_model(run, {"tuned", inputs, [&] {
                                auto subject = subject_of(run, run.trained());
                                if (company) give_weights(run), subject.company = &*company;
                                return subject;
                              }});
}

ExpertsResult measure_experts(Run& run, const TrainingResult& training) {
  constexpr size_t kSamples = 64;
  if (run.model().model->config.experts == 0 || run.dataset().held_out.empty()) return {};
  auto inputs = run.model_inputs();
  inputs.add("training", training.inputs).add("samples", run.sample_inputs().sha256());
  const auto stage = run.ledger().run("experts", inputs, {}, [&] {
    const auto& held_out = run.dataset().held_out;
    auto subject = subject_of(run, run.trained());
    subject.threads = run.recipe().eval.threads, subject.row_tokens = run.recipe().eval.pass_tokens;
    return ExpertsResult{measure_expert_use(subject, held_out.list(0, std::min(held_out.size(), kSamples))),
                         {}};
  });
  auto result = stage.values;
  if (result.layers.empty()) return result;
  const auto& worst = *std::ranges::max_element(result.layers, {}, &ExpertUse::largest);
  int64_t idle = 0;
  for (const auto& layer : result.layers) idle += layer.idle;
  result.line = {
      "experts",
      fmt::format("the busiest has {:.1f} % of its layer's choices (layer {}; even use is {:.1f} %), "
                  "{} of {} met no held-out token; none is ever dropped",
                  100 * worst.largest, worst.layer, 100.0 / static_cast<double>(worst.experts), idle,
                  static_cast<int64_t>(result.layers.size()) * worst.experts),
      stage.seconds, stage.skipped};
  run.say(*result.line);
  return result;
}

}  // namespace retort
