// Code completion in HumanEval's format (arXiv:2107.03374). Completions are written, never run.
#pragma once
#include <filesystem>

#include "eval/question_file.h"
#include "eval/subject.h"

namespace retort {

// Where a completion of a function body ends: the next top-level statement.
const std::vector<std::string>& code_stops();

// Writes `samples_file`, one {"task_id", "completion"} a line, in the problems' order, for whoever runs them
// in a sandbox. Metrics: ended (a stop was reached before max_tokens), completion_tokens.
TaskResult code_task(const Subject& subject, const std::vector<CodeProblem>& problems, int64_t max_tokens,
                     const std::filesystem::path& samples_file, const std::string& name);

}  // namespace retort
