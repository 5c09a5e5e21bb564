// Code completion in HumanEval's format (arXiv:2107.03374). Completions are written; they are run only where
// the recipe says so (run_code.h).
#pragma once
#include <filesystem>

#include "eval/question_file.h"
#include "eval/subject.h"

namespace retort {

// Where a completion of a function body ends: the next top-level statement.
const std::vector<std::string>& code_stops();

// The k of pass@k that are reported, as far as there are so many completions of a problem.
inline constexpr int64_t kPassAt[] = {1, 10, 100};

// Probability that one of k completions is right, estimated without bias from n of which `right` are: 1 -
// C(n - right, k) / C(n, k).
double pass_at(int64_t n, int64_t right, int64_t k);

// The program that a completion is judged by: prompt, completion, tests, and the call of check().
std::string test_program(const CodeProblem& problem, std::string_view completion);

// RecipeError where a problem brings no tests. `task`: for the message.
void require_tests(const std::vector<CodeProblem>& problems, const std::string& task);

struct CodeAsked {
  int64_t max_tokens = 64;
  bool execute = false;
  int64_t samples = 1;       // of a problem; 1 is greedy
  double temperature = 0.8;  // of the others
  bool keeps_texts = true;   // otherwise the file says of each completion only whether it passed
};

// Writes `samples_file`, one {"task_id", "completion"} a line, in the problems' order, with "passed" where
// they were run. Metrics: pass_at_1, ... where they were run; ended (a stop was reached before max_tokens),
// completion_tokens.
TaskResult code_task(const Subject& subject, const std::vector<CodeProblem>& problems, const CodeAsked& asked,
                     const std::filesystem::path& samples_file, const std::string& name);

}  // namespace retort
