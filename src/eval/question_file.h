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

// Files are read as data.sources reads them (JSONL, arrays, CSV and TSV, packed, folders, patterns). MMLU's
// CSV (question, A, B, C, D, answer; with a header row or without), or records in one of these shapes:
//   {"question", "choices": [...], "answer": index, letter or text}, {"question", "A", "B", ..., "answer":
//   "B"},
//   {"question", "choices": {"text": [...], "label": [...]}, "answerKey"} (ARC),
//   {"question", "options": {"A": ..., "B": ...} or [...], "answer_idx": "B", "answer": text} (MedQA,
//   MMLU-Pro),
//   {"question", "opa", "opb", "opc", "opd", "cop"} (MedMCQA; whether cop counts from 0 or from 1 is seen in
//   the whole file),
//   {"activity_label", "ctx_a", "ctx_b", "endings", "label"} (HellaSwag, put together as
//   lm-evaluation-harness does).
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
  std::string test = {}, entry_point = {};  // empty where the file has none
  std::string place = {};                   // file:line
};
// HumanEval's JSONL: {"task_id", "prompt", "test", "entry_point"}; the last two are needed where completions
// are run.
std::vector<CodeProblem> read_code_problems(const std::filesystem::path& file, int64_t limit);

}  // namespace retort
