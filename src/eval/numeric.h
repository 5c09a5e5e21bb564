// Numeric answers: greedy solutions of competition-mathematics problems, judged by their final answer.
#pragma once
#include "eval/asked.h"
#include "eval/question_file.h"
#include "eval/subject.h"

namespace retort {

// What the model is asked for each problem. With a template, a problem is a user's message and examples are
// earlier turns; without one (nullptr), "Problem: ...\nSolution:" texts.
std::vector<std::vector<int32_t>> numeric_prompts(const ChatTemplate* chat, const Tokenizer& tokenizer,
                                                  const Asked& asked,
                                                  const std::vector<NumericProblem>& examples,
                                                  const std::vector<NumericProblem>& problems);

// The final answer of a problem's solution, or the whole of it where it is the bare answer; and that of what
// a model said, nothing where it gave none. What is thought of on the way is no answer.
std::string wanted_answer(const NumericProblem& problem, const ThoughtMarks& own);
std::optional<std::string> given_answer(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                                        const Answer& answer, const ThoughtMarks& own);

// Metrics: accuracy, answered (a final answer was found).
TaskResult numeric_task(const Subject& subject, const std::vector<NumericProblem>& examples,
                        const std::vector<NumericProblem>& problems, int64_t max_tokens,
                        const std::string& name, const Asked& asked = {});

}  // namespace retort
