#include "report/run_record.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace retort {

namespace {

RunRecord record() {
  RunRecord record;
  record.title = "A run";
  record.columns = {{"exact match", true}, {"perplexity", false}};
  record.models = {{"base", {0.0, 1193.4}, 98000000, 210.25, {}, {}},
                   {"tuned", {0.3351, 2.394}, {}, {}, {}, {}},
                   {"export/model-Q8_0.gguf", {0.33, {}}, 150000000, 190.0, 0.00042, 0.995}};
  return record;
}

}  // namespace

// Numbers keep three digits that matter, absent ones are a dash, shares are percent.
TEST(RunRecord, TheTableIsReadable) {
  EXPECT_EQ(table_text(results_table(record())),
            "model                   exact match  perplexity       KL   top-1  rated       size  tokens/s\n"
            "base                          0.0 %      1193.4        -       -      -   93.5 MiB     210.2\n"
            "tuned                        33.5 %       2.394        -       -      -          -         -\n"
            "export/model-Q8_0.gguf       33.0 %           -  4.2e-04  99.5 %   good  143.1 MiB     190.0\n");
}

TEST(RunRecord, ThePageDrawsWhatTheMetricsHold) {
  const auto folder = std::filesystem::temp_directory_path() / ("retort_record_" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "metrics.jsonl")
      << "{\"step\":0,\"held_out_loss\":7.5}\n{\"step\":1,\"loss\":7.0,\"learning_rate\":0.001,\"gradient_"
         "norm\":3.0}\n{\"step\":2,\"loss\":null,\"learning_rate\":0.001,\"gradient_norm\":null}\n"
         "{\"step\":3,\"loss\":5.0,\"learning_rate\":0.0005,\"gradient_norm\":2.0}\n";
  std::ofstream(folder / "speed.jsonl")
      << "{\"step\":1,\"tokens_per_second\":200.0,\"resident_bytes\":2147483648}\n";
  auto run = record();
  run.folder = folder;
  run.training = TrainingNumbers{.steps = 3,
                                 .tokens = 1000,
                                 .seconds = 5,
                                 .startup_seconds = 1.25,
                                 .peak_bytes = 3ull << 30,
                                 .held_out_before = 7.5,
                                 .held_out_after = 0.9};
  run.gates = {{"completion.exact_match of tuned is 0.335; at least 0.5", false}};
  const auto page = run_page(run);
  ASSERT_EQ(page.charts.size(), 5u);
  ASSERT_EQ(page.charts[0].series.size(), 3u);
  EXPECT_EQ(page.charts[0].series[0].points.size(), 3u);
  EXPECT_EQ(page.charts[0].series[2].points, (std::vector<std::pair<double, double>>{{0, 7.5}}));
  EXPECT_EQ(page.charts[4].series[0].points[0].second, 2);  // GiB
  const auto html = page_html(page);
  for (const char* text : {"33.5 %", "base 0.0 %", "5.0 s", "3 steps, 200 tokens/s", "3.00 GiB",
                           "before 7.500", "broken", "1.2 s"})
    EXPECT_NE(html.find(text), std::string::npos) << text;
  std::filesystem::remove_all(folder);
}

}  // namespace retort
