#include "eval/multiple_choice.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "eval/calibration.h"
#include "eval/significance.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

std::string lettered(const ChoiceQuestion& question) {
  std::string text;
  for (size_t i = 0; i < question.options.size(); ++i)
    text += fmt::format("{}{}. {}", i == 0 ? "" : "\n", static_cast<char>('A' + i), question.options[i]);
  return text;
}

std::string asked(const ChoiceQuestion& question, ChoiceScore score) {
  if (score == ChoiceScore::text) return fmt::format("Question: {}\nAnswer:", trimmed(question.text));
  return std::string(trimmed(question.text)) + "\n" + lettered(question) + "\nAnswer:";
}

// The user's message.
std::string asked_in_chat(const ChoiceQuestion& question, ChoiceScore score, const Asked& how) {
  const auto text = std::string(trimmed(question.text));
  Columns columns = {{"question", text}, {"options", lettered(question)}};
  for (size_t i = 0; i < question.options.size(); ++i)
    columns.emplace_back(std::string(1, static_cast<char>('A' + i)), question.options[i]);
  return how.text(columns, score == ChoiceScore::text ? text : asked(question, score));
}

std::string answer_text(const ChoiceQuestion& question, size_t option, ChoiceScore score) {
  return score == ChoiceScore::text ? question.options[option]
                                    : std::string(1, static_cast<char>('A' + option));
}

std::string option_text(const ChoiceQuestion& question, size_t option, ChoiceScore score) {
  return score == ChoiceScore::text ? " " + question.options[option]
                                    : fmt::format(" {}", static_cast<char>('A' + option));
}

std::string head_of(const std::vector<ChoiceQuestion>& examples, ChoiceScore score) {
  std::string head =
      score == ChoiceScore::letter ? "The following are multiple choice questions (with answers).\n\n" : "";
  for (const auto& example : examples)
    head += asked(example, score) + option_text(example, example.answer, score) + "\n\n";
  return head;
}

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }));
}

}  // namespace

std::vector<Sample> choice_samples(const Tokenizer& tokenizer, const std::vector<ChoiceQuestion>& examples,
                                   const std::vector<ChoiceQuestion>& questions, ChoiceScore score) {
  const auto head = head_of(examples, score);
  std::vector<Sample> samples;
  for (const auto& question : questions) {
    const auto context = head + asked(question, score);
    const auto context_tokens = tokenizer.encode(context);
    for (size_t option = 0; option < question.options.size(); ++option) {
      const auto whole = tokenizer.encode(context + option_text(question, option, score));
      Sample sample;
      sample.id = question.id;
      if (tokenizer.add_bos && tokenizer.bos) sample.tokens.push_back(*tokenizer.bos);
      sample.tokens.insert(sample.tokens.end(), context_tokens.begin(), context_tokens.end());
      sample.weights.assign(sample.tokens.size(), 0.0f);
      const auto from = std::min(context_tokens.size(), whole.size());
      sample.tokens.insert(sample.tokens.end(), whole.begin() + static_cast<std::ptrdiff_t>(from),
                           whole.end());
      sample.weights.resize(sample.tokens.size(), 1.0f);
      samples.push_back(std::move(sample));
    }
  }
  return samples;
}

std::vector<Sample> choice_samples(const ChatTemplate& chat, const Tokenizer& tokenizer, const Asked& how,
                                   const std::vector<ChoiceQuestion>& examples,
                                   const std::vector<ChoiceQuestion>& questions, ChoiceScore score) {
  auto opening = how.opening();
  for (const auto& example : examples) {
    opening.push_back({"user", asked_in_chat(example, score, how)});
    opening.push_back({"assistant", answer_text(example, example.answer, score)});
  }
  std::vector<Sample> samples;
  for (const auto& question : questions) {
    auto messages = opening;
    messages.push_back({"user", asked_in_chat(question, score, how)});
    messages.push_back({"assistant", ""});
    const auto answer = static_cast<int32_t>(messages.size() - 1);
    for (size_t option = 0; option < question.options.size(); ++option) {
      messages.back().content = answer_text(question, option, score);
      auto rendered = render_tokens(chat, tokenizer, messages, false);
      size_t end = rendered.tokens.size();
      while (end > 0 &&
             (rendered.answers[end - 1] != answer || tokenizer.is_special(rendered.tokens[end - 1])))
        --end;
      Sample sample;
      sample.id = question.id;
      rendered.tokens.resize(end);
      sample.tokens = std::move(rendered.tokens);
      for (size_t i = 0; i < end; ++i) sample.weights.push_back(rendered.answers[i] == answer ? 1.0f : 0.0f);
      samples.push_back(std::move(sample));
    }
  }
  return samples;
}

TaskResult multiple_choice_task(const Subject& subject, const std::vector<ChoiceQuestion>& examples,
                                const std::vector<ChoiceQuestion>& questions, ChoiceScore score,
                                const std::string& name, const Asked& asked) {
  if (questions.empty()) throw RecipeError(fmt::format("eval task '{}': there are no questions", name));
  const auto samples =
      subject.chat ? choice_samples(*subject.chat, subject.tokenizer, asked, examples, questions, score)
                   : choice_samples(subject.tokenizer, examples, questions, score);
  const auto likely = likelihoods(subject, samples);
  TaskResult result{name, "multiple_choice", {}, {}, static_cast<int64_t>(questions.size()), 0, 0};
  double plain = 0, by_character = 0, by_token = 0;
  Calibration calibration;
  size_t first = 0;
  for (const auto& question : questions) {
    size_t best = 0, best_character = 0, best_token = 0;
    const auto& options = question.options;
    const auto total = [&](size_t option) { return likely[first + option].log_probability; };
    const auto per_character = [&](size_t option) {
      return total(option) / static_cast<double>(std::max<size_t>(1, characters(options[option])));
    };
    const auto per_token = [&](size_t option) {
      return total(option) / static_cast<double>(std::max<int64_t>(1, likely[first + option].tokens));
    };
    for (size_t option = 1; option < options.size(); ++option) {
      if (total(option) > total(best)) best = option;
      if (per_character(option) > per_character(best_character)) best_character = option;
      if (per_token(option) > per_token(best_token)) best_token = option;
    }
    plain += best == question.answer;
    double all = 0;  // of what the options have together
    for (size_t option = 0; option < options.size(); ++option) all += std::exp(total(option) - total(best));
    calibration.add(1 / all, best == question.answer);
    by_character += best_character == question.answer;
    by_token += best_token == question.answer;
    const auto letter = [](size_t option) { return std::string(1, static_cast<char>('A' + option)); };
    result.samples.push_back(
        {question.id, letter(question.answer), letter(best), best == question.answer ? 1.0 : 0.0});
    for (size_t option = 0; option < options.size(); ++option)
      result.tokens += static_cast<int64_t>(samples[first + option].tokens.size());
    first += options.size();
  }
  const auto count = static_cast<double>(questions.size());
  result.metrics = {{"accuracy", plain / count}};
  result.intervals = {{"accuracy", share_interval(plain / count, questions.size())}};
  if (score == ChoiceScore::text) {
    result.metrics.emplace_back("accuracy_norm", by_character / count);
    result.metrics.emplace_back("accuracy_per_token", by_token / count);
  }
  result.metrics.emplace_back("calibration_error", calibration.error());
  return result;
}

}  // namespace retort
