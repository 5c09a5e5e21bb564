// Question files from outside: multiple choice, numeric answers, code problems.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

namespace retort {

struct ChoiceQuestion {
  std::string id;  // file:line
  std::string text;
  std::vector<std::string> options;  // 2 to 26
  size_t answer = 0;                 // index of the right one
};

// MMLU's CSV (question, A, B, C, D, answer; with a header row or without), or JSONL in one of these shapes:
//   {"question", "choices": [...], "answer": index, letter or text}, {"question", "A", "B", ..., "answer":
//   "B"},
//   {"question", "choices": {"text": [...], "label": [...]}, "answerKey"} (ARC).
// FormatError with file:line for anything else. limit 0 = all.
std::vector<ChoiceQuestion> read_choice_questions(const std::filesystem::path& file, int64_t limit);

struct NumericProblem {
  std::string id;
  std::string text;
  std::string solution;  // as the file words it, with the answer inside
};
// JSONL: {"problem" or "question", "solution" or "answer"}.
std::vector<NumericProblem> read_numeric_problems(const std::filesystem::path& file, int64_t limit);

struct CodeProblem {
  std::string task_id, prompt;
};
// HumanEval's JSONL: {"task_id", "prompt", ...}; other keys are carried by nobody.
std::vector<CodeProblem> read_code_problems(const std::filesystem::path& file, int64_t limit);

}  // namespace retort
