// What building the forests of one step costs and what it saves: samples that share nothing, a system prompt,
// worked examples before multiple-choice questions, several questions a document. Prints a table and, with
// --json FILE, the figures.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>

#include "base/random.h"
#include "forest/forest.h"

namespace {

using namespace retort;

std::vector<int32_t> words(uint64_t key, int64_t count) {
  const Draws draws(key, "forest bench");
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(draws.below(static_cast<uint64_t>(i), 49152)));
  return tokens;
}

struct Work {
  const char* name;
  int64_t samples, head, per_body, body,
      tail;  // head shared by all; a body of so many tokens by `per_body` samples each; a tail of one's own
};

std::vector<Sample> samples_of(const Work& work) {
  std::vector<Sample> samples;
  const auto head = words(1, work.head);
  for (int64_t s = 0; s < work.samples; ++s) {
    Sample sample;
    sample.tokens = head;
    const auto body = words(1000 + static_cast<uint64_t>(s / work.per_body), work.body),
               tail = words(100000 + static_cast<uint64_t>(s), work.tail);
    sample.tokens.insert(sample.tokens.end(), body.begin(), body.end());
    sample.tokens.insert(sample.tokens.end(), tail.begin(), tail.end());
    sample.weights.assign(sample.tokens.size(), 0.0f);
    std::fill(sample.weights.end() - work.tail, sample.weights.end(), 1.0f);
    samples.push_back(std::move(sample));
  }
  return samples;
}

}  // namespace

int main(int count, char** arguments) {
  CLI::App app{"building forests"};
  std::string json, figures;
  app.add_option("--json", json, "write the figures to this file");
  CLI11_PARSE(app, count, arguments);
  constexpr int64_t kBudget = 2048;
  fmt::print("{:<34} {:>8} {:>10} {:>10} {:>8} {:>10} {:>8}\n", "a step of", "samples", "rows", "of forests",
             "saved", "build, us", "forests");
  for (const auto& work :
       {Work{"texts that share nothing", 16, 0, 1, 400, 112},
        Work{"texts that share nothing", 256, 0, 1, 20, 20}, Work{"a system prompt", 256, 40, 1, 10, 15},
        Work{"5 worked examples, 4 options each", 64, 900, 4, 90, 4},
        Work{"a document, 8 questions each", 64, 30, 8, 700, 40},
        Work{"8 answers to each prompt", 128, 20, 8, 80, 120}}) {
    const auto samples = samples_of(work);
    Saving saving;
    size_t forests = 0;
    std::vector<double> times;
    for (int i = 0; i < 20; ++i) {
      const auto start = std::chrono::steady_clock::now();
      forests = build_forests(samples, kBudget, 4, &saving).size();
      times.push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
    }
    const auto best = *std::min_element(times.begin(), times.end());
    const double ratio = static_cast<double>(saving.plain_rows) / static_cast<double>(saving.forest_rows);
    fmt::print("{:<34} {:>8} {:>10} {:>10} {:>7.2f}x {:>10.0f} {:>8}\n", work.name, work.samples,
               saving.plain_rows, saving.forest_rows, ratio, best, forests);
    figures += fmt::format(
        "{}{{\"work\": \"{}\", \"samples\": {}, \"plain_rows\": {}, \"forest_rows\": {}, \"build_us\": {}, "
        "\"forests\": {}}}",
        figures.empty() ? "" : ",\n  ", work.name, work.samples, saving.plain_rows, saving.forest_rows, best,
        forests);
  }
  if (!json.empty()) std::ofstream(json) << "[" << figures << "]\n";
  return 0;
}
