#include "eval/code.h"

#include "base/files.h"
#include "base/json.h"
#include "eval/significance.h"

namespace retort {

const std::vector<std::string>& code_stops() {
  static const std::vector<std::string> stops = {"\nclass ", "\ndef ",    "\n#", "\nif ",
                                                 "\nprint(", "\nassert ", "\n@", "\n```"};
  return stops;
}

TaskResult code_task(const Subject& subject, const std::vector<CodeProblem>& problems, int64_t max_tokens,
                     const std::filesystem::path& samples_file, const std::string& name) {
  SampleSpec greedy;
  greedy.max_tokens = max_tokens;
  greedy.stop = code_stops();
  std::vector<std::vector<int32_t>> prompts;
  const auto& tokenizer = subject.tokenizer;
  for (const auto& problem : problems) {
    auto tokens = tokenizer.encode(problem.prompt);
    if (tokenizer.add_bos && tokenizer.bos) tokens.insert(tokens.begin(), *tokenizer.bos);
    prompts.push_back(std::move(tokens));
  }
  const auto stops = stop_rules(subject.model.config, tokenizer, nullptr, greedy);
  const auto answers = generate(writer_of(subject), prompts, {greedy, stops});

  TaskResult result{name, "code", {}, {}, static_cast<int64_t>(problems.size()), 0, 0};
  std::string lines;
  double ended = 0;
  for (size_t i = 0; i < problems.size(); ++i) {
    const OrderedJson line = {{"task_id", problems[i].task_id}, {"completion", answers[i].text}};
    lines += line.dump(-1, ' ', false, OrderedJson::error_handler_t::replace) + "\n";
    const bool stopped = answers[i].finish == Finish::stop_text || answers[i].finish == Finish::stop_token;
    ended += stopped;
    result.tokens += static_cast<int64_t>(answers[i].tokens.size());
    result.samples.push_back({problems[i].task_id, "", answers[i].text, stopped ? 1.0 : 0.0});
  }
  write_text(samples_file, lines);
  const auto count = static_cast<double>(problems.size());
  result.intervals = {{"ended", share_interval(ended / count, problems.size())}};
  result.metrics = {{"ended", ended / count},
                    {"completion_tokens", static_cast<double>(result.tokens) / count}};
  return result;
}

}  // namespace retort
