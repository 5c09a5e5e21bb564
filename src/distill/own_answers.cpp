#include "distill/own_answers.h"

namespace retort {

Sample answered(const std::vector<int32_t>& prompt, const Answer& answer, std::optional<int32_t> end) {
  Sample sample{prompt, std::vector<float>(prompt.size()), ""};
  sample.tokens.insert(sample.tokens.end(), answer.tokens.begin(), answer.tokens.end());
  if (answer.finish == Finish::stop_token && end) sample.tokens.push_back(*end);
  sample.weights.resize(sample.tokens.size(), 1);
  return sample;
}

std::vector<Sample> own_answers(const OwnAnswersSpec& spec, const ComputedModel& student,
                                const std::vector<std::vector<int32_t>>& prompts,
                                const Answering& answering) {
  SampleSpec sampling;
  sampling.temperature = 1;
  sampling.max_tokens = spec.max_tokens;
  sampling.seed = static_cast<int64_t>(answering.seed);
  const at::NoGradGuard no_graph;
  const auto answers = generate({student.model, answering.tokenizer, student.compute, answering.how}, prompts,
                                {sampling, answering.stops});
  // Which of the tokens that end an answer it was does not matter: what is compared there is the choice among
  // all.
  const auto end =
      answering.stops.tokens.empty() ? std::nullopt : std::optional(answering.stops.tokens.front());
  std::vector<Sample> samples;
  for (size_t i = 0; i < answers.size(); ++i) samples.push_back(answered(prompts[i], answers[i], end));
  return samples;
}

OwnAnswers measure_own_answers(const ComputedModel& teacher, const ComputedModel& student,
                               const std::vector<Sample>& answers, const Comparing& comparing) {
  std::vector<Forest> forests;  // one an answer: positions that two answers share count for both
  for (const auto& answer : answers)
    forests.push_back(build_forests({answer}, static_cast<int64_t>(answer.tokens.size())).front());
  const auto quality = measure_quality(&teacher, {student}, forests, comparing).front();
  return {static_cast<int64_t>(answers.size()), quality.rows, quality.reverse_kl};
}

}  // namespace retort
