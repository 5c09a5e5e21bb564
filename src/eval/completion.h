// Greedy answers to held-out prompts, compared with the expected ones.
#pragma once
#include "data/record.h"
#include "eval/subject.h"

namespace retort {

struct Question {
  std::string id;
  std::vector<int32_t> prompt;
  std::string expected;
};

// The prompts of records that have one (plain texts are left out), with the template's reply header.
std::vector<Question> questions_of(const std::vector<Record>& records, const Subject& subject);

// Thoughts are no part of an answer (thoughts.h). Metrics, means over the questions: exact_match (white space
// at both ends aside), f1 and normalised_match (SQuAD's normalisation), first_letter, first_line,
// prefix_share, answer_tokens, ended (answers that ended by themselves); and of the answers as classes
// (classes.h) macro_f1, weighted_f1, majority and above_majority (exact_match less that).
TaskResult completion_task(const Subject& subject, const std::vector<Question>& questions, int64_t max_tokens,
                           const std::string& name);

}  // namespace retort
