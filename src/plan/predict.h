// What a run will need, before it starts: memory from the model's shape and the samples, disk, and time from
// one measured step.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "models/model.h"
#include "recipe/recipe.h"

namespace retort {

// The largest pass of a run, and how much work it is.
struct RunWork {
  int64_t steps = 0;
  int64_t epoch = 0;         // steps of the first epoch
  int64_t threads = 0;       // forests computed at the same time at most
  int64_t most_forests = 0;  // of one step
  int64_t most_rows = 0;     // of one forest
  int64_t longest = 0;       // rows of the longest sample
  int64_t rows_at_once = 0;  // that the threads keep memory for
  int64_t most_targets = 0;  // supervised rows of one forest
  double rows_per_step = 0;  // after prefix sharing
  double forests_per_step = 0;
  double plain_rows_per_step = 0;
};
// The samples of a run's first steps (of all steps when they are few). Memory settings do not change them.
struct FirstSteps {
  int64_t steps = 0;             // of the whole run
  int64_t epoch = 0;             // of the first epoch
  int64_t longest = 0;           // rows of the longest sample that any step of the run may have
  std::vector<Samples> samples;  // of each step that is looked at
};
FirstSteps first_steps(const TrainSpec& spec, const Samples& samples);

// Those steps cut into forests as training cuts them.
RunWork run_work(const TrainSpec& spec, const FirstSteps& first);
inline RunWork run_work(const TrainSpec& spec, const Samples& samples) {
  return run_work(spec, first_steps(spec, samples));
}

// Numbers of the compute type for one row of a pass: what a layer keeps for backward, and what comes and goes
// while a layer is computed. Of `saved`, `attended` are kept of all rows in the last layer too; behind its
// attention there are the rows alone that a loss asks for.
struct RowNumbers {
  double saved = 0, passing = 0, attended = 0;
};
RowNumbers row_numbers(const Model& model, const AdapterSpec& spec, int64_t longest);

// Forests that are computed at the same time, rows of each, and threads within each.
struct RowsAtWork {
  int64_t forests = 1, rows = 0, threads = 1;
};
// What their threads keep of copies of rows, beyond the buffers that every thread has: of the largest product
// forward or backward.
double copied_bytes(const Model& model, const AdapterSpec& spec, at::ScalarType compute,
                    const RowsAtWork& at_work);

struct MemoryPrediction {
  uint64_t program = 0;         // code, LibTorch, allocator, what every run has
  uint64_t weights = 0;         // the base as it is held, and the file's pages it was made from
  uint64_t trainables = 0;      // fp32 leaves, their gradients, optimizer states
  uint64_t samples = 0;         // tokens and weights of loss, or where they are in the store
  uint64_t passes = 0;          // training: activations, logits and gradients of all forests at work
  uint64_t generation = 0;      // evaluation: caches and logits of answers that grow together
  uint64_t teacher = 0;         // its weights, which the caller adds
  uint64_t teacher_mapped = 0;  // of that, pages of its file
  bool teacher_stays = false;   // asked while the student trains; otherwise before, into a cache

  uint64_t peak() const {
    const auto training = trainables + std::max(passes, generation);
    return program + weights + samples + (teacher_stays ? training + teacher : std::max(training, teacher));
  }
};
MemoryPrediction predict_memory(const Recipe& recipe, const Model& model, at::ScalarType compute,
                                const RunWork& work, const Dataset& dataset);

// Failure when the peak is above what this machine leaves: parts, limit, and which keys make it smaller. Call
// it before a run evaluates or trains anything.
void require_memory(const MemoryPrediction& prediction, const Recipe& recipe);
std::string describe(const MemoryPrediction& prediction);  // parts, one line

// Elements that training changes, and bytes of optimizer state for each.
int64_t trainable_elements(const Model& model, const AdapterSpec& spec);
double state_bytes(const OptimizerSpec& spec);

// Largest use of model.scratch by a step of a model that is read layer by layer; 0: it uses none.
uint64_t predict_scratch(const Recipe& recipe, const Model& model, at::ScalarType compute,
                         const RunWork& work);

// Largest use of the run's folder: checkpoints, exports, the token store.
uint64_t predict_disk(const Recipe& recipe, const Model& model, const Dataset& dataset);

// Seconds of one row through forward and backward on all threads, measured on the first forests of the run.
// Attaches the adapter: the model is a trainable one afterwards.
double measure_row_seconds(const Recipe& recipe, Model& model, at::ScalarType compute,
                           const Dataset& dataset);

// Seconds of a run's parts.
struct TimePrediction {
  double training = 0, evaluation = 0;
  double baseline = 0;   // the same student trained without its teacher (distill.baseline)
  double teacher = 0;    // what is asked of it, and the comparison with it at the end
  double reopening = 0;  // each export opened and compared with the trained model, in fp32
};
struct RowTime {
  double seconds;            // of the student: measure_row_seconds()
  double teacher_share = 0;  // what a row costs the teacher, as a share of it; 0 without one
};
TimePrediction predict_time(const Recipe& recipe, const RunWork& work, const Dataset& dataset,
                            const RowTime& row, at::ScalarType compute);

}  // namespace retort
