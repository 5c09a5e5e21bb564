// The stages of a run, in their order. Each does its work or finds it done, says so in one line, and returns
// what later stages, the table and the report need.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "eval/compare.h"
#include "eval/evaluate.h"
#include "eval/expert_use.h"
#include "export/artefacts.h"
#include "run/open_run.h"
#include "train/train.h"

namespace retort {

// Renders and tokenizes the samples, refuses what would train badly and looks for held-out samples in the
// training data.
struct SourceCounts {
  std::string path;
  int64_t records = 0, train = 0, held_out = 0, samples = 0;  // samples: in an epoch

  template <class Visitor> void fields(Visitor& field) {
    field("path", path), field("records", records), field("train", train), field("held_out", held_out);
    field("samples", samples);
  }
};
struct SamplesResult {
  int64_t train = 0, held_out = 0, tokens = 0, supervised = 0;
  std::vector<std::string> notes;
  std::vector<SourceCounts> sources;
  int64_t groups = 0, held_out_groups = 0;
  std::string architecture;  // of the base
  StageLine line;

  template <class Visitor> void fields(Visitor& field) {
    field("train", train);
    field("held_out", held_out);
    field("tokens", tokens);
    field("supervised", supervised);
    field("notes", notes);
    field.rare("sources", sources);
    field.rare("groups", groups);
    field.rare("held_out_groups", held_out_groups);
    field.rare("architecture", architecture);
  }
};
SamplesResult prepare_samples(Run& run);

// Trains or finds the training done; afterwards run.model() is the trained model.
struct TrainingResult {
  int64_t steps = 0, tokens = 0, rows = 0, supervised = 0;
  int64_t skipped = 0;  // steps that were not finite
  double seconds = 0, last_loss = 0;
  double startup_seconds = 0;  // from the command to the first step, evaluation not counted
  uint64_t peak_bytes = 0, trainable_bytes = 0;
  std::optional<double> held_out_before, held_out_after;
  double weights = 0, trained_weights = 0;  // how many there are
  double operations = 0;                    // of matrix products, in all steps
  // Of a device: bytes of frozen weights that stayed there, and of those that found no room.
  uint64_t device_bytes = 0, device_travelling = 0;
  std::string inputs;  // what the weights were made from: StageInputs::sha256()
  std::vector<std::string> notes;
  StageLine line;

  template <class Visitor> void fields(Visitor& field) {
    field("steps", steps);
    field("tokens", tokens);
    field("rows", rows);
    field("supervised", supervised);
    field("seconds", seconds);
    field("last_loss", last_loss);
    field("peak_bytes", peak_bytes);
    field("skipped", skipped);
    field("startup_seconds", startup_seconds);
    field("trainable_bytes", trainable_bytes);
    field("notes", notes);
    field("held_out_before", held_out_before);
    field("held_out_after", held_out_after);
    field.rare("weights", weights);
    field.rare("trained_weights", trained_weights);
    field.rare("operations", operations);
    field.rare("device_bytes", device_bytes);
    field.rare("device_travelling", device_travelling);
  }
};
// Floating-point operations of matrix products for so many rows: two for a weight at work forward and two for
// the gradient of what it read; of one that is trained two more for its own; two more where a layer is
// computed again. Attention's scores are not counted.
double training_operations(const Model& model, double trained_weights, bool recompute, int64_t rows);
// `elsewhere`: seconds of this process that start-up does not answer for (evaluating the base).
TrainingResult train_model(Run& run, double elsewhere);
// Writes what happens to a training into the run's ledger.
std::function<void(const TrainEvent&)> event_writer(Run& run);
// The same when the training is there already; RecipeError that names the command to run when not.
TrainingResult trained_model(Run& run);
// RecipeError where a training would not go on with what the run's folder holds of an earlier one: the
// student's, and that of the student without its teacher. Nothing is changed.
void require_continuable(Run& run);
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
// What eval/base.json has, where a task of the recipe is of kind membership, which calibrates by the base's
// losses; nothing where there is no such task or file. It joins the inputs of the stages that use it.
std::vector<TaskResult> base_losses(const Run& run);
void add_base_losses(const Run& run, StageInputs& inputs);
// What the run holds out and learns from. `base`: base_losses(), alive for as long as this.
HeldOut held_out_of(Run& run, const std::vector<TaskResult>& base);
ModelResult evaluate_base(Run& run);
ModelResult evaluate_tuned(Run& run, const TrainingResult& training);

// How the trained model uses its experts, over the first held-out samples; nothing for one that has none.
struct ExpertsResult {
  std::vector<ExpertUse> layers;
  std::optional<StageLine> line;

  template <class Visitor> void fields(Visitor& field) { field("layers", layers); }
};
ExpertsResult measure_experts(Run& run, const TrainingResult& training);

// What went wrong in a stage after the training, which ends neither the run nor its report.
struct StageFailure {
  std::string stage, reason;
  Exit exit = Exit::machine_failed;
};
StageFailure failure_of(const std::string& stage, const std::filesystem::path& folder,
                        const std::exception& error);
// Does `work`. A request to stop passes through; any other exception becomes an entry of `failures` and a
// line of progress. A file that retort wrote and cannot read is a mistake of retort's, not a bad input.
void attempt(const Run& run, const std::string& stage, std::vector<StageFailure>& failures,
             const std::function<void()>& work);
// How the process ends: with the worst of them, or `otherwise`.
Exit exit_of(const std::vector<StageFailure>& failures, Exit otherwise);

// Writes every artefact that the recipe asks for, opens it again and compares it with the trained model. One
// that fails does not keep the others from being written.
std::vector<ModelResult> export_models(Run& run, const TrainingResult& training,
                                       std::vector<StageFailure>& failures);

// Results of tasks as the run's files may hold them. Of a private recipe without texts, but of the first
// samples that the report is to show, and with numbers in the place of class names, which are answers.
std::vector<TaskResult> to_keep(const Recipe& recipe, std::vector<TaskResult> tasks);
// What of a recipe decides that; joins the inputs of a stage that writes results.
void add_privacy(const Recipe& recipe, StageInputs& inputs);

// Results of tasks as the ledger keeps them: without samples. As a file does: without the time they took, so
// that it is equal when the run is repeated.
std::vector<TaskResult> without_samples(std::vector<TaskResult> tasks);
Json file_of_tasks(std::vector<TaskResult> tasks);
void write_tasks(const std::filesystem::path& file, const std::vector<TaskResult>& tasks);
std::vector<TaskResult> read_tasks(const std::filesystem::path& file);

// "exact match": what a task is judged by, and the title of its column.
struct Headline {
  std::string metric, title;
  bool share = false;
};
Headline headline(const TaskResult& task);
// "completion: exact match 33.0 %; perplexity: perplexity 2.39"
std::string headlines(const std::vector<TaskResult>& tasks);

}  // namespace retort
