// Numeric answers: greedy solutions of competition-mathematics problems, judged by their final answer.
#pragma once
#include "eval/asked.h"
#include "eval/question_file.h"
#include "eval/subject.h"

namespace retort {

// Metrics: accuracy, answered (a final answer was found). With a template, a problem is a user's message and
// examples are earlier turns; without one, "Problem: ...\nSolution:" texts.
TaskResult numeric_task(const Subject& subject, const std::vector<NumericProblem>& examples,
                        const std::vector<NumericProblem>& problems, int64_t max_tokens,
                        const std::string& name, const Asked& asked = {});

}  // namespace retort
