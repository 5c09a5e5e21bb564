// The user's own program scores answers.
#include "eval/scored_by.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"
#include "eval/check_tasks.h"

namespace retort {
namespace {

class ScoredBy : public ::testing::Test {
 protected:
  static std::vector<OrderedJson> answers(int count) {
    std::vector<OrderedJson> all;
    for (int i = 1; i <= count; ++i)
      all.push_back({{"id", fmt::format("q:{}", i)}, {"wanted", "x"}, {"answer", std::string(i, 'a')}});
    return all;
  }
  ScoredBySpec spec(const std::string& script, std::vector<std::string> scores = {"polite"}) const {
    ScoredBySpec by;
    by.command = {"sh", "-c", script};
    by.scores = std::move(scores);
    by.seconds = 60;
    return by;
  }
  TaskResult scored(const ScoredBySpec& by, int count = 2) const {
    TaskResult result;
    result.task = "t", result.kind = "completion";
    add_scores_of_program(by, answers(count), "t", folder / "t.scores.jsonl", result);
    return result;
  }
  void refused(const ScoredBySpec& by, const std::string& expected, int count = 2) const {
    try {
      scored(by, count);
      ADD_FAILURE() << "not refused: " << expected;
    } catch (const RecipeError& error) {
      const std::string found = error.what();
      EXPECT_TRUE(found.starts_with("eval task 't': scored_by: ")) << found;
      EXPECT_NE(found.find(expected), std::string::npos) << found;
      EXPECT_EQ(found.find('\n'), std::string::npos) << found;
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "t.scores.jsonl"));
  }
  TemporaryFolder folder;
};

TEST_F(ScoredBy, EachAnswerIsALineAndTheMeansAreMetricsWithIntervals) {
  // The length of each answer, and whether it was the first.
  const auto by = spec(R"(n=0; while read -r line; do a=${line##*\"answer\":\"}; a=${a%%\"*}; n=$((n+1));
    echo "{\"length\": ${#a}, \"first\": $((n == 1))}"; done)",
                       {"first", "length"});
  const auto result = scored(by, 3);
  ASSERT_EQ(result.metrics.size(), 2u);
  EXPECT_EQ(result.metrics[0].first, "first");
  EXPECT_DOUBLE_EQ(*result.metric("first"), 1.0 / 3);
  EXPECT_DOUBLE_EQ(*result.metric("length"), 2);
  ASSERT_NE(result.interval("length"), nullptr);
  EXPECT_LT(result.interval("length")->low, 2);
  EXPECT_GT(result.interval("length")->high, 2);
  EXPECT_EQ(read_text(folder / "t.scores.jsonl"),
            "{\"id\":\"q:1\",\"first\":1.0,\"length\":1.0}\n{\"id\":\"q:2\",\"first\":0.0,\"length\":2.0}\n"
            "{\"id\":\"q:3\",\"first\":0.0,\"length\":3.0}\n");
  EXPECT_EQ(scores_of_program(result), (std::vector<std::string>{"first", "length"}));
}

TEST_F(ScoredBy, ManyAnswersDoNotBlock) {
  EXPECT_DOUBLE_EQ(*scored(spec("sed -e 's/.*/{\"polite\": 0.25}/'"), 3000).metric("polite"), 0.25);
}

TEST_F(ScoredBy, WhatItDoesWrongIsSaidWithItsPlace) {
  const std::string good = R"(echo '{"polite": 1}';)";
  refused(spec(good), "sh wrote 1 lines; it was given 2");
  refused(spec(good + good + good), "wrote more lines than the 2");
  refused(spec(good + "echo so-so"), "line 2 of sh: is no JSON: so-so");
  refused(spec(good + "echo 7"), "line 2 of sh: expected an object of scores, found 7");
  refused(spec(good + R"(echo '{"polite": "yes"}')"),
          "line 2 of sh: polite: expected a number, found \"yes\"");
  refused(spec(good + R"(echo '{"polite": true}')"), "expected a number, found true");
  refused(spec(good + R"(echo '{"polite": NaN}')"), "is no JSON");
  refused(spec(good + R"(echo '{"polite": 1e999}')"), "line 2 of sh");
  refused(spec(good + R"(echo '{"police": 1}')"), "the score 'polite' is missing");
  refused(spec(good + R"(echo '{"polite": 1, "rude": 0}')"), "'rude' is not among the scores");
  refused(spec(good + good + "echo Traceback >&2; echo ValueError: no >&2; exit 1"),
          "sh ended with exit code 1; it said: ValueError: no");
  refused(spec(good + good + "kill -9 $$"), "sh was ended by signal 9");
  refused(spec("head -c 3000000 /dev/zero | tr '\\0' x"), "writes a line without an end");
  auto slow = spec(good + good + "sleep 600");
  slow.seconds = 1;
  refused(slow, "sh took more than 1 s");
}

TEST_F(ScoredBy, IsCheckedBeforeTraining) {
  EvalSpec eval;
  eval.tasks.resize(1);
  auto& task = eval.tasks[0];
  task.path = folder.write("q.jsonl", R"({"prompt": "q", "completion": "a"})");
  const auto problem = [&](std::vector<std::string> command, std::vector<std::string> scores) {
    task.scored_by = ScoredBySpec{std::move(command), std::move(scores)};
    try {
      check_tasks(eval, {}, 0);
    } catch (const RecipeError& error) { return std::string(error.what()); }
    return std::string();
  };
  EXPECT_EQ(problem({"sh"}, {"polite"}), "");
  EXPECT_NE(problem({"./score.py"}, {"polite"}).find("there is no program './score.py'"), std::string::npos);
  EXPECT_NE(problem({"sh"}, {"Polite!"}).find("'Polite!' is no name"), std::string::npos);
  EXPECT_NE(problem({"sh"}, {"f1"}).find("is a metric of the task itself"), std::string::npos);
  EXPECT_NE(problem({"sh"}, {"a", "a"}).find("named twice"), std::string::npos);
  task.scored_by = ScoredBySpec{{"sh"}, {"polite"}};
  BoundSpec gate;
  gate.metric = "completion.polite", gate.at_least = 0.5;
  EXPECT_NO_THROW(check_gates({gate}, eval));
  gate.against_base = "better";  // there is no test sample by sample
  EXPECT_THROW(check_gates({gate}, eval), RecipeError);
  task.kind = "numeric";
  EXPECT_NE(problem({"sh"}, {"polite"}).find("scored_by is for kind completion"), std::string::npos);
}

}  // namespace
}  // namespace retort
