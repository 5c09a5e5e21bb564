#include "eval/calibration.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "eval/check_tasks.h"
#include "eval/evaluate.h"

namespace retort {
namespace {

// Bins of a tenth: two answers of 0.95, one of them right (0.45 apart), and two of 0.25, one right (0.25
// apart).
TEST(Calibration, IsTheDistanceOfProbabilityAndShareBinByBin) {
  Calibration calibration;
  EXPECT_EQ(calibration.error(), 0);
  calibration.add(0.95, true), calibration.add(0.95, false);
  EXPECT_NEAR(calibration.error(), 0.45, 1e-12);
  calibration.add(0.25, true), calibration.add(0.25, false);
  EXPECT_NEAR(calibration.error(), (0.45 + 0.25) / 2, 1e-12);
  Calibration sure;
  for (int i = 0; i < 10; ++i) sure.add(1.0, true);
  EXPECT_EQ(sure.error(), 0);
}

TaskResult scored(const std::string& name, std::vector<double> scores,
                  const std::string& kind = "completion") {
  TaskResult task;
  task.task = name, task.kind = kind;
  for (size_t i = 0; i < scores.size(); ++i) task.samples.push_back({std::to_string(i), "", "", scores[i]});
  return task;
}

std::vector<double> first_right(size_t right, size_t of) {
  std::vector<double> scores(of, 0);
  for (size_t i = 0; i < right; ++i) scores[i] = 1;
  return scores;
}

// McNemar's exact p: 5 against 0 is 0.0625, 6 against 0 is 0.03125.
TEST(Gates, AskThePairedTest) {
  BoundSpec gate;
  gate.metric = "q.exact_match";
  const std::vector<TaskResult> base = {scored("q", first_right(10, 40))};
  const auto holds = [&](size_t right) {
    return against_base(gate, base, {scored("q", first_right(right, 40))}).holds;
  };
  gate.against_base = "better";
  EXPECT_FALSE(holds(10));
  EXPECT_FALSE(holds(15));
  EXPECT_TRUE(holds(16));
  EXPECT_FALSE(holds(4));
  gate.against_base = "not_worse";
  EXPECT_TRUE(holds(10));
  EXPECT_TRUE(holds(5));
  EXPECT_FALSE(holds(4));
  EXPECT_TRUE(holds(40));
  EXPECT_EQ(against_base(gate, base, {scored("q", first_right(4, 40))}).how, "p 0.03125");
  // Nats: fewer are better.
  gate.metric = "p.nats_per_token";
  const std::vector<TaskResult> nats = {scored("p", {2.0, 2.1, 2.2, 2.3}, "perplexity")};
  const std::vector<TaskResult> less = {scored("p", {1.0, 1.1, 1.2, 1.3}, "perplexity")};
  EXPECT_FALSE(against_base(gate, less, nats).holds);
  EXPECT_TRUE(against_base(gate, nats, less).holds);
  gate.against_base = "better";
  EXPECT_TRUE(against_base(gate, nats, less).holds);
  EXPECT_FALSE(against_base(gate, nats, nats).holds);
  EXPECT_FALSE(against_base(gate, nats, {scored("p", {1.0, 1.1}, "perplexity")}).holds);  // other samples
}

// A program of the user's may call its scores as retort calls some of its own, of which smaller are better.
TEST(Gates, OfScoresOfAProgramLargerIsBetterWhateverTheirName) {
  for (const auto* name : {"auc", "auc_of_loss", "tpr_at_1_percent_fpr", "mean_exposure", "max_exposure",
                           "perplexity", "nats_per_token", "bits_per_byte"}) {
    const auto result = [&](const char* kind, double value) {
      return std::vector<TaskResult>{{"t", kind, {{name, value}}, {}, 4, 0, 0}};
    };
    BoundSpec gate;
    gate.metric = fmt::format("t.{}", name), gate.model = "tuned", gate.worse_than_base_by = 0;
    EXPECT_TRUE(failed_gates({gate}, result("completion", 0.5), result("completion", 0.9), {}).empty())
        << name;
    EXPECT_EQ(failed_gates({gate}, result("completion", 0.9), result("completion", 0.5), {}).size(), 1u)
        << name;
    const std::string own = name;
    const auto* kind = own.ends_with("exposure")                 ? "exposure"
                       : own.starts_with("auc") || own[0] == 't' ? "membership"
                                                                 : "perplexity";
    EXPECT_EQ(failed_gates({gate}, result(kind, 0.5), result(kind, 0.9), {}).size(), 1u) << name;
    EXPECT_TRUE(failed_gates({gate}, result(kind, 0.9), result(kind, 0.5), {}).empty()) << name;
  }
}

// The test of samples is of the task's own metric, not of a score that has the name of another task's.
TEST(Gates, ScoresOfAProgramHaveNoTestWhateverTheirName) {
  EvalSpec spec;
  spec.tasks.resize(1);
  spec.tasks[0].scored_by.emplace();
  spec.tasks[0].scored_by->scores = {"accuracy"};
  BoundSpec gate;
  gate.metric = "completion.accuracy", gate.against_base = "better";
  EXPECT_THROW(check_gates({gate}, spec), RecipeError);
  gate.metric = "completion.exact_match";
  EXPECT_NO_THROW(check_gates({gate}, spec));
}

TEST(Gates, AgainstTheBaseIsOfWhatIsTestedSampleBySample) {
  EvalSpec spec;
  spec.tasks.resize(1);
  BoundSpec gate;
  gate.against_base = "better";
  gate.metric = "completion.macro_f1";
  try {
    check_gates({gate}, spec);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("gate[0].against_base: 'completion.macro_f1' has no test"),
              std::string::npos)
        << error.what();
  }
  gate.metric = "completion.exact_match";
  EXPECT_NO_THROW(check_gates({gate}, spec));
}

}  // namespace
}  // namespace retort
