#include "eval/perplexity.h"

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "eval/significance.h"

namespace retort {

double Perplexity::nats_per_token() const { return nats / weight; }
double Perplexity::perplexity() const { return std::exp(nats_per_token()); }
double Perplexity::bits_per_byte() const { return nats / std::numbers::ln2 / bytes; }
double Perplexity::accuracy() const { return static_cast<double>(correct) / static_cast<double>(tokens); }

Perplexity measure_perplexity(const Subject& subject, const std::vector<Sample>& samples,
                              std::vector<SampleLikelihood>* each) {
  Perplexity sum;
  const auto all = likelihoods(subject, samples);
  if (each) *each = all;
  for (const auto& one : all) {
    sum.nats -= one.log_probability;
    sum.weight += one.weight;
    sum.tokens += one.tokens;
    sum.correct += one.correct;
  }
  if (sum.weight == 0)
    throw RecipeError(fmt::format(
        "perplexity: none of the {} samples has a supervised token; check data.loss", samples.size()));
  for (const auto& sample : samples)
    for (size_t i = 1; i < sample.tokens.size(); ++i)
      if (sample.weights[i] != 0)
        sum.bytes +=
            sample.weights[i] * static_cast<double>(subject.tokenizer.token_bytes(sample.tokens[i]).size());
  return sum;
}

TaskResult perplexity_task(const Subject& subject, const std::vector<Sample>& samples,
                           const std::string& name) {
  std::vector<SampleLikelihood> each;
  const auto sum = measure_perplexity(subject, samples, &each);
  TaskResult result{name, "perplexity", {}, {}, static_cast<int64_t>(samples.size()), sum.tokens, 0};
  result.metrics = {{"nats_per_token", sum.nats_per_token()},
                    {"perplexity", sum.perplexity()},
                    {"token_accuracy", sum.accuracy()}};
  if (sum.bytes > 0) result.metrics.emplace_back("bits_per_byte", sum.bits_per_byte());
  for (size_t i = 0; i < each.size(); ++i)
    if (each[i].weight > 0)
      result.samples.push_back(
          {samples[i].id, "", "", -each[i].log_probability / each[i].weight, each[i].weight});
  const auto interval = bootstrap_interval(result.samples.size(), [&](const std::vector<size_t>& drawn) {
    double nats = 0, weight = 0;
    for (const auto i : drawn) {
      nats += result.samples[i].score * result.samples[i].weight;
      weight += result.samples[i].weight;
    }
    return nats / weight;
  });
  result.intervals = {{"nats_per_token", interval},
                      {"perplexity", {std::exp(interval.low), std::exp(interval.high)}}};
  return result;
}

}  // namespace retort
