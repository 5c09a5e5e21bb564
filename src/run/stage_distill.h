// What a run with a teacher does besides training: the same student trained without it, and how much of the
// teacher is in each.
#pragma once
#include <string>
#include <vector>

#include "adapters/load_adapter.h"
#include "distill/own_answers.h"
#include "distill/quality.h"
#include "report/page.h"
#include "run/open_teacher.h"
#include "run/run_stages.h"
#include "train/train.h"

namespace retort {

// The recipe's model with adapter.merge in it, cut by its prune section where it has one. Activations are
// measured in fp32, on whatever machine. `notes`: what is to be told of the adapters.
LoadedModel load_student(const Recipe& recipe, AdapterNotes* notes = nullptr);
// A model with the student's tokenizer, where the weights do not matter: cut only when the cut brings another
// tokenizer.
LoadedModel load_for_tokens(const Recipe& recipe);

// Cross-entropy, or the distillation from the recipe's teacher (whose cache is completed first).
TaughtObjective objective_of(Run& run);
// The rounds of distill.on_policy; a note each.
TrainResult train_in_rounds(Run& run, const TrainJob& job, const TrainWatch& watch,
                            std::vector<std::string>& notes);
// What the objective depends on besides the samples: the sections, and the teacher's files by content; empty
// without a teacher.
std::string objective_inputs(const Recipe& recipe);

// The folder of the student that is trained without its teacher, and what its training is compared by;
// nullopt where the recipe trains none, or it is trained.
inline constexpr const char* kBaseline = "ce-only";
std::optional<Fingerprint> baseline_to_train(Run& run);

// One line of the table: how near the teacher, and how good at the recipe's tasks.
struct DistilledModel {
  std::string name;  // base, ce-only, distilled, teacher
  Quality quality;
  std::optional<OwnAnswers> own;  // of students, where they were measured
  std::vector<TaskResult> tasks;

  template <class Visitor> void fields(Visitor& field) {  // the tasks are other stages' results
    field("name", name), field("quality", quality), field.rare("own_answers", own);
  }
};
struct DistillResult {
  std::vector<DistilledModel> models;
  std::vector<StageLine> lines;
};
// Trains the student without its teacher (distill.baseline), measures that student and the teacher by the
// recipe's tasks, as `base` and `tuned` are already, and compares all with the teacher on the held-out
// samples, and students on their own answers. Nothing without a distill section.
DistillResult compare_with_teacher(Run& run, const TrainingResult& training, const ModelResult& base,
                                   const ModelResult& tuned);

Table distill_table(const DistillResult& result);
// Held-out cross-entropy over the steps, with and without the teacher, between the student at its start and
// the teacher; without series where nothing was evaluated.
Chart distill_chart(const std::filesystem::path& run_folder, const DistillResult& result);

}  // namespace retort
