// The stages of a run, in their order. Each does its work or finds it done, says so in one line, and returns
// what later stages, the table and the report need.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "eval/compare.h"
#include "eval/evaluate.h"
#include "export/artefacts.h"
#include "run/open_run.h"

namespace retort {

// Renders and tokenizes the samples, refuses what would train badly and looks for held-out samples in the
// training data.
struct SamplesResult {
  int64_t train = 0, held_out = 0, tokens = 0, supervised = 0;
  std::vector<std::string> notes;
  StageLine line;
};
SamplesResult prepare_samples(Run& run);

// Trains or finds the training done; afterwards run.model() is the trained model.
struct TrainingResult {
  int64_t steps = 0, tokens = 0, rows = 0, supervised = 0;
  double seconds = 0, last_loss = 0;
  double startup_seconds = 0;  // from the command to the first step, evaluation not counted
  uint64_t peak_bytes = 0, trainable_bytes = 0;
  std::optional<double> held_out_before, held_out_after;
  std::string inputs;  // what the weights were made from: StageInputs::sha256()
  std::vector<std::string> notes;
  StageLine line;
};
// `elsewhere`: seconds of this process that start-up does not answer for (evaluating the base).
TrainingResult train_model(Run& run, double elsewhere);
// The same when the training is there already; RecipeError that names the command to run when not.
TrainingResult trained_model(Run& run);
bool is_trained(Run& run);

// One model, measured by all tasks of the recipe. `samples` of the results are empty: they are in
// eval/NAME.json.
struct ModelResult {
  std::string name;  // "base", "tuned", or a path inside the run
  std::vector<TaskResult> tasks;
  std::vector<StageLine> lines;
  std::filesystem::path answers;  // the file in the run's folder with the samples; empty when there is none
  // Exports only:
  std::optional<Artefact> artefact;
  std::optional<Agreement> agreement;  // against the trained model, both in fp32
  int64_t prompts = 0,
          equal_prompts = 0;  // held-out prompts, and those whose token ids are the base tokenizer's
};
// What is evaluated under a name: `inputs` says what its weights were made from; `load` and then `held_out`
// (the run's own when absent) are called when there is work to do.
struct Evaluated {
  std::string name;
  StageInputs inputs;
  std::function<Subject()> load;
  std::function<HeldOut()> held_out = nullptr;
};
ModelResult evaluate_model(Run& run, const Evaluated& what);
ModelResult evaluate_base(Run& run);
ModelResult evaluate_tuned(Run& run, const TrainingResult& training);

// Writes every artefact that the recipe asks for, opens it again and compares it with the trained model.
std::vector<ModelResult> export_models(Run& run, const TrainingResult& training);

// Results of tasks as JSON and back; with samples for the file, without for the ledger.
enum class KeepSamples { no, yes };
Json to_json(const std::vector<TaskResult>& tasks, KeepSamples samples);
std::vector<TaskResult> tasks_from(const Json& json);

// "exact match": what a task is judged by, and the title of its column.
struct Headline {
  std::string metric, title;
  bool share = false;
};
Headline headline(const TaskResult& task);
// "completion: exact match 33.0 %; perplexity: perplexity 2.39"
std::string headlines(const std::vector<TaskResult>& tasks);

}  // namespace retort
