#include "eval/numeric.h"

#include "base/error.h"
#include "eval/significance.h"
#include "text/final_answer.h"
#include "text/template_thoughts.h"

namespace retort {
namespace {

std::vector<int32_t> chat_prompt(const ChatTemplate& chat, const Tokenizer& tokenizer, const Asked& asked,
                                 const std::vector<NumericProblem>& examples, const NumericProblem& problem) {
  auto messages = asked.opening();
  const auto ask = [&](const NumericProblem& one) {
    return asked.text({{"question", one.text}, {"problem", one.text}},
                      one.text + "\nPut your final answer within \\boxed{}.");
  };
  for (const auto& example : examples) {
    messages.push_back({"user", ask(example)});
    messages.push_back({"assistant", example.solution});
  }
  messages.push_back({"user", ask(problem)});
  return render_tokens(chat, tokenizer, messages, true).tokens;
}

std::vector<int32_t> plain_prompt(const Tokenizer& tokenizer, const std::vector<NumericProblem>& examples,
                                  const NumericProblem& problem) {
  std::string text;
  for (const auto& example : examples)
    text += "Problem: " + example.text + "\nSolution: " + example.solution + "\n\n";
  auto tokens = tokenizer.encode(text + "Problem: " + problem.text + "\nSolution:");
  if (tokenizer.add_bos && tokenizer.bos) tokens.insert(tokens.begin(), *tokenizer.bos);
  return tokens;
}

}  // namespace

std::vector<std::vector<int32_t>> numeric_prompts(const ChatTemplate* chat, const Tokenizer& tokenizer,
                                                  const Asked& asked,
                                                  const std::vector<NumericProblem>& examples,
                                                  const std::vector<NumericProblem>& problems) {
  std::vector<std::vector<int32_t>> prompts;
  for (const auto& problem : problems)
    prompts.push_back(chat ? chat_prompt(*chat, tokenizer, asked, examples, problem)
                           : plain_prompt(tokenizer, examples, problem));
  return prompts;
}

std::string wanted_answer(const NumericProblem& problem, const ThoughtMarks& own) {
  return final_answer(without_thoughts(problem.solution, false, own)).value_or(problem.solution);
}

std::optional<std::string> given_answer(const Tokenizer& tokenizer, const std::vector<int32_t>& prompt,
                                        const Answer& answer, const ThoughtMarks& own) {
  return final_answer(spoken(tokenizer, prompt, marked_text(tokenizer, answer, own), own));
}

TaskResult numeric_task(const Subject& subject, const std::vector<NumericProblem>& examples,
                        const std::vector<NumericProblem>& problems, int64_t max_tokens,
                        const std::string& name, const Asked& asked) {
  SampleSpec greedy;
  greedy.max_tokens = max_tokens;
  if (!subject.chat) greedy.stop = {"\nProblem:"};
  const auto prompts = numeric_prompts(subject.chat, subject.tokenizer, asked, examples, problems);
  const auto stops = stop_rules(subject.model.config, subject.tokenizer, subject.chat, greedy);
  const auto answers = generate(writer_of(subject), prompts, {greedy, stops});

  const auto marks = own_thought_marks(chat_of(subject));
  TaskResult result{name, "numeric", {}, {}, static_cast<int64_t>(problems.size()), 0, 0};
  double right = 0, answered = 0;
  for (size_t i = 0; i < problems.size(); ++i) {
    const auto expected = wanted_answer(problems[i], marks);
    const auto got = given_answer(subject.tokenizer, prompts[i], answers[i], marks);
    const bool equal = got && equal_answers(expected, *got);
    right += equal;
    answered += got.has_value();
    result.tokens += static_cast<int64_t>(answers[i].tokens.size());
    result.samples.push_back({problems[i].id, expected, got.value_or(""), equal ? 1.0 : 0.0});
  }
  const auto count = static_cast<double>(problems.size());
  result.metrics = {{"accuracy", right / count}, {"answered", answered / count}};
  result.intervals = {{"accuracy", share_interval(right / count, problems.size())}};
  return result;
}

}  // namespace retort
