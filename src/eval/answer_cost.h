// What answers to the questions of tasks cost a model whose layers are in its file.
#pragma once
#include <filesystem>
#include <string>

#include "eval/eval_spec.h"
#include "eval/subject.h"

namespace retort {

// One line (generate/step_cost.h); empty where no task has answers, or the layers are in memory.
std::string describe_answers(const EvalSpec& spec, const Subject& subject, const std::filesystem::path& path);

}  // namespace retort
