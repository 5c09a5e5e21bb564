// Our side of tools/bench/demo_task and tools/bench/sft: trains what a recipe says in a folder that is gone
// afterwards, asks the held-out questions and prints one JSON line. train_recipe QUESTIONS MAX_TOKENS RECIPE
// [key=value ...]; no question is asked with 0.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <vector>

#include "adapters/attach.h"
#include "base/json.h"
#include "data/token_store.h"
#include "eval/completion.h"
#include "ops/memory.h"
#include "recipe/recipe.h"
#include "train/train.h"

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median_interval(const std::vector<double>& times, double without) {
  std::vector<double> intervals;
  for (size_t i = 1; i < times.size(); ++i) intervals.push_back(times[i] - times[i - 1]);
  if (intervals.empty()) return without;
  std::sort(intervals.begin(), intervals.end());
  return (intervals[(intervals.size() - 1) / 2] + intervals[intervals.size() / 2]) / 2;
}

struct Folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / fmt::format("retort_train_recipe_{}", ::getpid());
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

int main(int count, char** arguments) try {
  using namespace retort;
  if (count < 4) {
    fmt::print(stderr, "usage: train_recipe QUESTIONS MAX_TOKENS RECIPE [key=value ...]\n");
    return 2;
  }
  const double started = now();
  keep_freed_memory();
  const auto asked = static_cast<size_t>(std::stoull(arguments[1]));
  const auto recipe =
      load_recipe(arguments[3], std::vector<std::string>(arguments + 4, arguments + count)).recipe;
  auto loaded = load_model(recipe.model);
  const auto& chat =
      choose_chat_template(recipe.data.wanted_template(), loaded.chat_template_source, *loaded.tokenizer);
  auto dataset = load_dataset(recipe.data, *loaded.tokenizer, chat);
  const auto compute = compute_type(recipe.model);
  const auto leaves = attach(*loaded.model, recipe.adapter, static_cast<uint64_t>(recipe.train.seed));
  const Folder folder;
  Json losses = Json::array();
  double first_step = 0;
  std::vector<double> ends;  // of steps
  TrainWatch watch;
  watch.on_step = [&](const StepRecord& step) {
    if (losses.empty()) first_step = now() - started;
    losses.push_back(step.loss);
    ends.push_back(now());
    if (step.step % 10 == 0)
      fmt::print(stderr, "step {} of {}: loss {:.3f}\n", step.step, step.steps, step.loss);
  };
  const double begin = now();
  const auto result = train(
      recipe.train,
      {*loaded.model, leaves, dataset.train, dataset.held_out, next_token_objective(), compute, folder.path},
      watch);
  const double whole = now() - begin;
  // As the peer counts: the median step after the first, without evaluation and start-up.
  const double steady = median_interval(ends, result.seconds);
  const auto samples = static_cast<double>(recipe.train.batch.samples),
             steps = static_cast<double>(ends.size());

  Json line = {{"compute", compute == at::kBFloat16 ? "bf16" : "f32"},
               {"steps", result.steps},
               {"losses", losses},
               {"seconds", result.seconds},
               {"whole_seconds", whole},
               {"samples_per_s", samples / steady},
               {"tokens_per_s", static_cast<double>(result.tokens) / steps / steady},
               {"whole_samples_per_s", samples * steps / whole},
               {"rows", result.rows},
               {"tokens", result.tokens},
               {"supervised", result.supervised},
               {"first_step_s", first_step}};
  line["held_out_before"] = result.held_out_before ? Json(*result.held_out_before) : Json();
  line["held_out_after"] = result.held_out_after ? Json(*result.held_out_after) : Json();
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  line["peak_mb"] = static_cast<double>(usage.ru_maxrss) / 1024;
  if (asked > 0) {
    dataset.held_out_records.resize(std::min(asked, dataset.held_out_records.size()));
    const Subject subject{*loaded.model, *loaded.tokenizer, &chat, compute};
    const auto answers = completion_task(subject, questions_of(dataset.held_out_records, subject),
                                         std::stoll(arguments[2]), "demo");
    line["asked"] = answers.count;
    for (const auto& [name, value] : answers.metrics) line[name] = value;
  }
  fmt::print("{}\n", line.dump());
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 2;
}
