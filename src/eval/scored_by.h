// Answers that the user's own program scores.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/eval_spec.h"
#include "eval/result.h"

namespace retort {

// RecipeError for a program that is not there, names of scores that are no names, or are the task's own.
void check_scored_by(const ScoredBySpec& spec, const std::string& task,
                     const std::vector<std::string>& own_metrics);

// Starts the program once, writes a line for each answer to its standard input, and reads a line of scores
// for each, in the same order, from its standard output:
//   {"id": "cases.jsonl:3", "messages": [{"role": "user", "content": "..."}], "columns": {...}, "wanted":
//   "...",
//    "answer": "...", "whole_answer": "..."}     ->     {"polite": 1, "cites_the_law": 0.5}
// The means become metrics of `result`, each with its interval; the scores of each answer are written to
// `scores_file`. The program is the user's and may do what the user may: it is not confined. RecipeError with
// the number of the line for too few or too many lines, names that the spec lacks, what is no number, an exit
// code other than 0, and a program that takes longer than it may.
void add_scores_of_program(const ScoredBySpec& spec, const std::vector<OrderedJson>& answers,
                           const std::string& task, const std::filesystem::path& scores_file,
                           TaskResult& result);

}  // namespace retort
