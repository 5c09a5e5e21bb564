// Multiple choice by likelihood. Every option of every question is a sample that supervises the option's
// tokens; the examples, the question and its options share their beginnings in the forest, so each is
// computed once.
#pragma once
#include "eval/asked.h"
#include "eval/question_file.h"
#include "eval/subject.h"

namespace retort {

// letter: MMLU's prompt with lettered options (arXiv:2009.03300), the option is " A"; metric accuracy.
// text: "Question: ...\nAnswer:" and the option is its whole text; metrics accuracy (sum of
// log-probabilities),
//       accuracy_norm (divided by the option's characters, as acc_norm of lm-evaluation-harness),
//       accuracy_per_token.
enum class ChoiceScore { letter, text };

// Without a template in `subject` the questions are plain text; with one each is a user's message, its
// examples earlier turns, and an option the beginning of the assistant's answer.
TaskResult multiple_choice_task(const Subject& subject, const std::vector<ChoiceQuestion>& examples,
                                const std::vector<ChoiceQuestion>& questions, ChoiceScore score,
                                const std::string& name, const Asked& asked = {});

// The samples behind it, question by question, option by option; tokens as lm-evaluation-harness cuts them:
// the context on its own, then what context + option has beyond that.
std::vector<Sample> choice_samples(const Tokenizer& tokenizer, const std::vector<ChoiceQuestion>& examples,
                                   const std::vector<ChoiceQuestion>& questions, ChoiceScore score);
// The same in a template: the prompt as generation renders it, then the option as the answer's text, without
// the token that ends it.
std::vector<Sample> choice_samples(const ChatTemplate& chat, const Tokenizer& tokenizer, const Asked& asked,
                                   const std::vector<ChoiceQuestion>& examples,
                                   const std::vector<ChoiceQuestion>& questions, ChoiceScore score);

}  // namespace retort
