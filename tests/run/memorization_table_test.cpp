// The table of what models give away: a row for each model that was measured, a column for what was.
#include "run/memorization_table.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

TaskResult exposure() {
  return {"exposure", "exposure", {{"mean_exposure", 1.25}, {"max_exposure", 3}, {"limit", 10}}, {}, 8, 0, 0};
}

TaskResult membership() {
  TaskResult task{"membership",
                  "membership",
                  {{"auc", 0.75}, {"tpr_at_1_percent_fpr", 0.125}, {"auc_of_loss", 0.5}},
                  {},
                  2000,
                  0,
                  0};
  task.intervals = {{"auc", {0.7, 0.8}}};
  return task;
}

ModelResult model(const std::string& name, std::vector<TaskResult> tasks) {
  ModelResult result;
  result.name = name;
  result.tasks = std::move(tasks);
  return result;
}

using Row = std::vector<std::string>;

TEST(MemorizationTable, HasARowForEachModelThatWasMeasured) {
  const auto base = model("base", {exposure()}), tuned = model("tuned", {exposure(), membership()});
  const auto other = model("other", {});
  const auto table = memorization_table({&base, &tuned, &other});
  EXPECT_EQ(table.head, (Row{"model", "mean exposure", "highest exposure", "can be at most", "membership AUC",
                             "found at 1 % false", "AUC of loss"}));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(table.rows[0], (Row{"base", "1.25", "3.00", "10.00", "-", "-", "-"}));
  EXPECT_EQ(table.rows[1],
            (Row{"tuned", "1.25", "3.00", "10.00", "0.750 (0.700 to 0.800)", "12.5 %", "0.500"}));
}

TEST(MemorizationTable, HasOnlyTheColumnsOfWhatWasMeasured) {
  const auto tuned = model("tuned", {membership()}), other = model("other", {});
  EXPECT_EQ(memorization_table({&tuned}).head.size(), 4u);
  EXPECT_TRUE(memorization_table({&other}).rows.empty());
}

}  // namespace
}  // namespace retort
