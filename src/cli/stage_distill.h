// What a run with a teacher does besides training: the same student trained without it, and how much of the teacher is in each.
#pragma once
#include <string>
#include <vector>

#include "cli/open_run.h"
#include "distill/quality.h"
#include "report/page.h"
#include "train/train.h"

namespace retort {

// The recipe's model, cut by its prune section where it has one. Activations are measured in fp32, on whatever machine.
LoadedModel load_student(const Recipe& recipe);

// Cross-entropy, or the distillation from the recipe's teacher (whose cache is completed first).
Objective objective_of(Run& run);
// The rounds of distill.on_policy; a note each.
TrainResult train_in_rounds(Run& run, const TrainJob& job, const TrainWatch& watch, std::vector<std::string>& notes);
// What the objective depends on besides the samples: the sections, and the teacher's files by content; empty without a teacher.
std::string objective_inputs(const Recipe& recipe);

struct DistillResult {
  std::vector<std::pair<std::string, Quality>> models;   // base, cross-entropy only, distilled, teacher
  std::vector<StageLine> lines;
};
// Trains the student without its teacher (distill.baseline), then compares all with the teacher on the held-out samples. Nothing
// without a distill section. `training`: StageInputs of the distilled weights.
DistillResult compare_with_teacher(Run& run, const std::string& training);

Table distill_table(const DistillResult& result);
// Held-out cross-entropy over the steps, with and without the teacher; without series where nothing was evaluated.
Chart distill_chart(const std::filesystem::path& run_folder);

}  // namespace retort
