// Our side of tools/bench/multiple_choice: questions of a file, scored by likelihood; one JSON line.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <ctime>

#include "base/json.h"
#include "eval/multiple_choice.h"
#include "ops/memory.h"

// multiple_choice_bench MODEL WEIGHTS COMPUTE QUESTIONS EXAMPLES FEW_SHOT LIMIT THREADS
int main(int count, char** arguments) try {
  using namespace retort;
  if (count != 9) {
    fmt::print(
        stderr,
        "usage: multiple_choice_bench MODEL WEIGHTS COMPUTE QUESTIONS EXAMPLES FEW_SHOT LIMIT THREADS\n");
    return 2;
  }
  keep_freed_memory();
  ModelSpec spec;
  spec.path = arguments[1];
  spec.weights = arguments[2];
  spec.compute = arguments[3];
  const auto loaded = load_model(spec);
  Subject subject{*loaded.model, *loaded.tokenizer};
  subject.compute = compute_type(spec);
  subject.threads = std::atoll(arguments[8]);
  const auto examples = read_choice_questions(arguments[5], std::atoll(arguments[6]));
  const auto start = std::chrono::steady_clock::now();
  const auto cpu_start = std::clock();
  const auto questions = read_choice_questions(arguments[4], std::atoll(arguments[7]));
  const auto result = multiple_choice_task(subject, examples, questions, ChoiceScore::letter, "questions");
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double cpu = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
  std::string answers;
  for (const auto& sample : result.samples) answers += sample.got;
  Json scores = Json::array();  // once more, outside of the time: the log-probability of every option
  for (const auto& option :
       likelihoods(subject, choice_samples(*loaded.tokenizer, examples, questions, ChoiceScore::letter)))
    scores.push_back(option.log_probability);
  const auto asked = static_cast<double>(questions.size());
  fmt::print("{}\n", Json{{"questions_per_s", asked / seconds},
                          {"questions_per_cpu_s", asked / cpu},
                          {"seconds", seconds},
                          {"accuracy", *result.metric("accuracy")},
                          {"answers", answers},
                          {"scores", scores}}
                         .dump());
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 3;
}
