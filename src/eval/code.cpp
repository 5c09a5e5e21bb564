#include "eval/code.h"

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "eval/run_code.h"
#include "eval/significance.h"

namespace retort {

const std::vector<std::string>& code_stops() {
  static const std::vector<std::string> stops = {"\nclass ", "\ndef ",    "\n#", "\nif ",
                                                 "\nprint(", "\nassert ", "\n@", "\n```"};
  return stops;
}

double pass_at(int64_t n, int64_t right, int64_t k) {
  if (n - right < k) return 1;
  double none = 1;
  for (int64_t i = n - right + 1; i <= n; ++i) none *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - none;
}

std::string test_program(const CodeProblem& problem, std::string_view completion) {
  return problem.prompt + std::string(completion) + "\n" + problem.test + "\ncheck(" + problem.entry_point +
         ")\n";
}

void require_tests(const std::vector<CodeProblem>& problems, const std::string& task) {
  for (const auto& problem : problems)
    if (problem.test.empty() || problem.entry_point.empty())
      throw RecipeError(fmt::format(
          "eval task '{}': execute: {}: problem '{}' has no tests; expected the keys test and entry_point",
          task, printable(problem.place), printable(problem.task_id)));
}

TaskResult code_task(const Subject& subject, const std::vector<CodeProblem>& problems, const CodeAsked& asked,
                     const std::filesystem::path& samples_file, const std::string& name) {
  if (asked.execute) require_tests(problems, name);
  SampleSpec sampling;
  sampling.max_tokens = asked.max_tokens;
  sampling.stop = code_stops();
  if (asked.samples > 1) sampling.temperature = asked.temperature;
  const auto each = static_cast<size_t>(asked.samples);
  std::vector<std::vector<int32_t>> prompts;
  const auto& tokenizer = subject.tokenizer;
  for (const auto& problem : problems) {
    auto tokens = tokenizer.encode(problem.prompt);
    if (tokenizer.add_bos && tokenizer.bos) tokens.insert(tokens.begin(), *tokenizer.bos);
    prompts.insert(prompts.end(), each, tokens);
  }
  const auto stops = stop_rules(subject.model.config, tokenizer, nullptr, sampling);
  const auto answers = generate(writer_of(subject), prompts, {sampling, stops});
  std::vector<ProgramRun> runs;
  if (asked.execute) {
    std::vector<std::string> programs;
    for (size_t i = 0; i < answers.size(); ++i)
      programs.push_back(test_program(problems[i / each], answers[i].text));
    runs = run_python(programs, {}, subject.threads);
  }

  TaskResult result{name, "code", {}, {}, static_cast<int64_t>(problems.size()), 0, 0};
  std::string lines;
  double ended = 0;
  std::vector<double> passes(std::size(kPassAt), 0);
  for (size_t p = 0; p < problems.size(); ++p) {
    int64_t right = 0, stopped = 0;
    for (size_t i = p * each; i < (p + 1) * each; ++i) {
      OrderedJson line = {{"task_id", problems[p].task_id}};
      if (asked.keeps_texts) line["completion"] = answers[i].text;
      if (asked.execute) line["passed"] = runs[i].passed;
      if (asked.execute && asked.keeps_texts && !runs[i].passed) line["problem"] = runs[i].problem;
      lines += line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
      stopped += answers[i].finish == Finish::stop_text || answers[i].finish == Finish::stop_token;
      right += asked.execute && runs[i].passed;
      result.tokens += static_cast<int64_t>(answers[i].tokens.size());
    }
    ended += static_cast<double>(stopped);
    for (size_t k = 0; k < passes.size(); ++k)
      if (kPassAt[k] <= asked.samples) passes[k] += pass_at(asked.samples, right, kPassAt[k]);
    const auto share = static_cast<double>(asked.execute ? right : stopped) / static_cast<double>(each);
    result.samples.push_back({problems[p].task_id, "", answers[p * each].text, share});
  }
  write_text(samples_file, lines);
  const auto count = static_cast<double>(problems.size()), all = count * static_cast<double>(each);
  if (asked.execute)
    for (size_t k = 0; k < passes.size(); ++k)
      if (kPassAt[k] <= asked.samples)
        result.metrics.emplace_back(fmt::format("pass_at_{}", kPassAt[k]), passes[k] / count);
  result.metrics.emplace_back("ended", ended / all);
  result.metrics.emplace_back("completion_tokens", static_cast<double>(result.tokens) / all);
  const char* head = asked.execute ? "pass_at_1" : "ended";
  if (asked.samples == 1) result.intervals = {{head, share_interval(*result.metric(head), problems.size())}};
  else
    result.intervals = {{head, bootstrap_interval(problems.size(), [&](const std::vector<size_t>& drawn) {
                           double sum = 0;
                           for (const auto i : drawn) sum += result.samples[i].score;
                           return sum / static_cast<double>(drawn.size());
                         })}};
  return result;
}

}  // namespace retort
