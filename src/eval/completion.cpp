#include "eval/completion.h"

#include <cmath>

#include "base/error.h"
#include "data/dataset.h"
#include "eval/calibration.h"
#include "eval/classes.h"
#include "eval/significance.h"
#include "text/chat_pieces.h"
#include "text/generation_scores.h"
#include "text/template_thoughts.h"
#include "text/text_match.h"
#include "text/thoughts.h"

namespace retort {

std::vector<Question> questions_of(const std::vector<Record>& records, const Subject& subject) {
  std::vector<Question> questions;
  for (const auto& record : records)
    if (!record.messages.empty())
      questions.push_back(
          {record.place, prompt_tokens(record, subject.tokenizer, chat_of(subject)), record.completion()});
  return questions;
}

namespace {

// How far a model's own probability of its answers is from how often they are right.
double calibration_of_answers(const Subject& subject, const std::vector<std::vector<int32_t>>& prompts,
                              const std::vector<Answer>& answers, const TaskResult& result) {
  std::vector<Sample> samples;
  for (size_t i = 0; i < answers.size(); ++i) {
    Sample sample;
    sample.tokens = prompts[i];
    sample.tokens.insert(sample.tokens.end(), answers[i].tokens.begin(), answers[i].tokens.end());
    sample.weights.assign(prompts[i].size(), 0.0f);
    sample.weights.resize(sample.tokens.size(), 1.0f);
    samples.push_back(std::move(sample));
  }
  const auto likely = likelihoods(subject, samples);
  Calibration calibration;
  for (size_t i = 0; i < answers.size(); ++i)
    calibration.add(std::exp(likely[i].log_probability), result.samples[i].score == 1);
  return calibration.error();
}

}  // namespace

TaskResult completion_task(const Subject& subject, const std::vector<Question>& questions, int64_t max_tokens,
                           const std::string& name) {
  if (questions.empty())
    throw RecipeError(fmt::format(
        "eval task '{}': there are no prompts; hold out samples (data.held_out) or name a file (path)",
        name));
  SampleSpec greedy;
  greedy.max_tokens = max_tokens;
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& question : questions) prompts.push_back(question.prompt);
  const auto stops = stop_rules(subject.model.config, subject.tokenizer, subject.chat, greedy);
  const auto answers = generate(writer_of(subject), prompts, {greedy, stops});

  const auto marks = own_thought_marks(chat_of(subject));
  TaskResult result{name, "completion", {}, {}, static_cast<int64_t>(questions.size()), 0, 0};
  Classes classes;
  Bleu bleu;
  Chrf chrf;
  double contains = 0, rouge = 0;
  double exact = 0, normalised = 0, f1 = 0, letter = 0, line = 0, prefix = 0, ended = 0;
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto& answer = answers[i];
    const auto text = marked_text(subject.tokenizer, answer, marks);
    const auto expected = without_thoughts(questions[i].expected, false, marks),
               got = spoken(subject.tokenizer, questions[i].prompt, text, marks);
    const double equal = trimmed(expected) == trimmed(got) ? 1 : 0;
    exact += equal;
    classes.add(std::string(trimmed(expected)), std::string(trimmed(got)));
    normalised += normalised_answer(expected) == normalised_answer(got);
    f1 += token_f1(expected, got);
    letter += first_letter_equal(expected, got);
    line += first_line_equal(expected, got);
    prefix += prefix_share(expected, got);
    contains += holds_citations(expected, got);
    rouge += rouge_l(expected, got);
    bleu.add(expected, got);
    chrf.add(expected, got);
    ended += answer.finish == Finish::stop_token || answer.finish == Finish::stop_text;
    result.tokens += static_cast<int64_t>(answer.tokens.size());
    result.samples.push_back({questions[i].id, questions[i].expected, text, equal});
  }
  const auto count = static_cast<double>(questions.size());
  result.metrics = {{"exact_match", exact / count},
                    {"f1", f1 / count},
                    {"normalised_match", normalised / count},
                    {"first_letter", letter / count},
                    {"first_line", line / count},
                    {"prefix_share", prefix / count},
                    {"ended", ended / count},
                    {"answer_tokens", static_cast<double>(result.tokens) / count},
                    {"macro_f1", classes.macro_f1()},
                    {"weighted_f1", classes.weighted_f1()},
                    {"majority", classes.majority()},
                    {"above_majority", exact / count - classes.majority()},
                    {"contains", contains / count},
                    {"rouge_l", rouge / count},
                    {"bleu", bleu.score()},
                    {"chrf", chrf.score()}};
  result.classes = classes.table();
  if (!result.classes.empty())
    result.metrics.emplace_back("calibration_error",
                                calibration_of_answers(subject, prompts, answers, result));
  result.intervals = {{"exact_match", share_interval(exact / count, questions.size())}};
  if (!result.classes.empty()) result.intervals.emplace_back("macro_f1", classes.macro_f1_interval());
  return result;
}

}  // namespace retort
