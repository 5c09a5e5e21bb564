// What a model gives away: every number below is worked by hand.
#include "eval/memorization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/check_tasks.h"
#include "eval/evaluate.h"

namespace retort {
namespace {

TEST(Exposure, IsLog2OfHowManyTextsMinusLog2OfTheRank) {
  const std::vector<double> twins = {4, 2, 7, 1, 5, 3, 6};  // with the canary 8 texts: 3 bits at most
  EXPECT_DOUBLE_EQ(largest_exposure(twins.size()), 3);
  EXPECT_DOUBLE_EQ(exposure(0.5, twins), 3);    // rank 1
  EXPECT_DOUBLE_EQ(exposure(1.5, twins), 2);    // rank 2: log2 8 - log2 2
  EXPECT_DOUBLE_EQ(exposure(3.5, twins), 1);    // rank 4
  EXPECT_DOUBLE_EQ(exposure(100.0, twins), 0);  // rank 8
  EXPECT_DOUBLE_EQ(exposure(1.0, twins), 2);    // a twin that is as likely stands before it
}

TEST(Membership, AreaIsTheShareOfPairsInTheRightOrder) {
  EXPECT_DOUBLE_EQ(area_under_curve({3, 1}, {2, 1}), 0.625);  // 3 > 2, 3 > 1; 1 < 2; 1 = 1 counts half
  EXPECT_DOUBLE_EQ(area_under_curve({5, 6}, {1, 2, 3}), 1);
  EXPECT_DOUBLE_EQ(area_under_curve({1}, {5}), 0);
  EXPECT_DOUBLE_EQ(area_under_curve({4, 4}, {4, 4, 4}), 0.5);
}

// Q1 = 0.75 / 1.25 = 0.6, Q2 = 2 * 0.5625 / 1.75 = 0.642857; variance (0.1875 + 0.0375 + 0.080357) / 4.
TEST(Membership, IntervalIsHanleyAndMcNeils) {
  const auto interval = area_interval(0.75, 2, 2);
  EXPECT_NEAR(interval.low, 0.75 - 1.959964 * std::sqrt(0.30535714 / 4), 1e-6);
  EXPECT_DOUBLE_EQ(interval.high, 1);
}

TEST(Membership, TruePositivesAllowOnePerCentOfFalseOnes) {
  std::vector<double> others(98, 0.0);
  others.push_back(4);  // 99 others: none of them may be taken for a member
  const std::vector<double> members = {5, 3, 1, 0.5};
  EXPECT_DOUBLE_EQ(true_positives(members, others, 0.01), 0.25);
  others.push_back(0);  // of 100 one may
  EXPECT_DOUBLE_EQ(true_positives(members, others, 0.01), 1);
  EXPECT_DOUBLE_EQ(true_positives({0, 0}, others, 0.01), 0);  // no more than the others score
}

Sample sample(const std::string& id, float weight = 1) { return {{1, 2}, {0, weight}, id}; }

std::vector<std::string> ids(const std::vector<Sample>& samples) {
  std::vector<std::string> all;
  for (const auto& one : samples) all.push_back(one.id);
  return all;
}

TEST(Membership, DrawsEachSampleOnceAndNoCanary) {
  const Samples train = {sample("a:1"), sample("a:1"),    sample("a:2"),
                         sample("a:3"), sample("a:4", 0), sample("data.canaries:1")};
  const Samples held_out = {sample("a:5"), sample("a:6"), sample("a:7")};
  const auto all = draw_for_membership(train, held_out, 0, 7);
  EXPECT_EQ(ids(all.members), (std::vector<std::string>{"a:1", "a:2", "a:3"}));  // a:4 learns nothing
  EXPECT_EQ(ids(all.others), (std::vector<std::string>{"a:5", "a:6", "a:7"}));
  const auto some = draw_for_membership(train, held_out, 2, 7);
  EXPECT_EQ(some.members.size(), 2u);
  EXPECT_EQ(some.others.size(), 2u);
  EXPECT_EQ(ids(draw_for_membership(train, held_out, 2, 7).members), ids(some.members));
}

TEST(Memorization, GatesFailWhereMoreIsGivenAwayThanTheyAllow) {
  const std::vector<TaskResult> base = {{"exposure", "exposure", {{"max_exposure", 2}}, {}, 1, 0, 0}};
  const std::vector<TaskResult> tuned = {{"exposure", "exposure", {{"max_exposure", 5}}, {}, 1, 0, 0}};
  BoundSpec gate;
  gate.metric = "exposure.max_exposure", gate.model = "tuned";
  gate.at_most = 4;
  EXPECT_EQ(failed_gates({gate}, base, tuned, {}).size(), 1u);
  gate.at_most = 5;
  EXPECT_EQ(failed_gates({gate}, base, tuned, {}).size(), 0u);
  gate.at_most.reset();
  gate.worse_than_base_by = 2;  // larger is worse: 5 is worse than 2 by 3
  EXPECT_EQ(failed_gates({gate}, base, tuned, {}).size(), 1u);
  gate.worse_than_base_by = 3;
  EXPECT_EQ(failed_gates({gate}, base, tuned, {}).size(), 0u);
}

TEST(Memorization, TasksSayWhatTheyNeed) {
  const auto refusal = [](const EvalSpec& spec, const DataSpec& data, int64_t held_out) -> std::string {
    try {
      check_tasks(spec, data, held_out);
    } catch (const std::exception& error) { return error.what(); }
    return "";
  };
  EvalSpec spec;
  spec.tasks.emplace_back();
  spec.tasks[0].kind = "exposure";
  DataSpec data;
  EXPECT_EQ(refusal(spec, data, 5), "eval task 'exposure': no canary is planted; set data.canaries.count");
  data.canaries.count = 2;
  EXPECT_EQ(refusal(spec, data, 5), "");
  spec.tasks[0].kind = "membership";
  EXPECT_EQ(refusal(spec, data, 5), "");
  EXPECT_EQ(refusal(spec, data, 0), "eval task 'membership': no sample is held out; raise data.held_out");
  spec.tasks[0].path = "a.jsonl";
  EXPECT_EQ(refusal(spec, data, 5), "eval task 'membership': membership reads no file; leave path out");
}

}  // namespace
}  // namespace retort
