// The table of differences between models.
#include "run/score_tables.h"

#include <gtest/gtest.h>

#include "data/temporary_folder.h"  // tests/data
#include "run/run_stages.h"

namespace retort {
namespace {

TaskResult scored(const std::string& kind, double score) {
  TaskResult task{kind, kind, {{"score", score}}, {}, 40, 0, 0};
  for (int i = 0; i < 40; ++i) task.samples.push_back({std::to_string(i), "", "", score + 0.001 * (i % 3)});
  return task;
}

// Of several drawn answers a problem of code has a share that passes: more is better, and it is no loss.
TEST(DifferenceTable, FewerIsBetterOfNatsAlone) {
  const TemporaryFolder folder;
  const auto model = [&](const std::string& name, double score) {
    write_tasks(folder / (name + ".json"), {scored("perplexity", score), scored("code", score)});
    ModelResult result;
    result.name = name, result.answers = name + ".json";
    return result;
  };
  const auto base = model("base", 0.25), tuned = model("tuned", 0.75);
  const auto table = difference_table(folder / "", {&base, &tuned});
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0][1], "perplexity (nats a token)");
  EXPECT_EQ(table.rows[0].back(), "worse");
  EXPECT_EQ(table.rows[1][1], "code");
  EXPECT_EQ(table.rows[1].back(), "better");
}

}  // namespace
}  // namespace retort
