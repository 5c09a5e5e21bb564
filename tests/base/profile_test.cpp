#include "base/profile.h"

#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "base/json.h"

namespace retort {
namespace {

void work_for(double seconds) {
  timespec t{};
  const auto now = [&] {
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t),
           static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  };
  const auto until = now() + seconds;
  while (now() < until) {}
}

const WorkTotal* find(const Profile& profile, const std::string& name, const std::string& kind = "") {
  for (const auto& total : profile.totals)
    if (total.name == name && total.kind == kind) return &total;
  return nullptr;
}

TEST(Profile, SumsWhatEachSpanDidWithoutThoseInsideIt) {
  start_profile();
  {
    const Span outer({"outer", "forward", 100, 10, 2});
    work_for(0.02);
    for (int i = 0; i < 2; ++i) {
      const Span inner({"inner", "backward", 7, 3});
      work_for(0.01);
    }
  }
  const auto profile = stop_profile();
  ASSERT_EQ(profile.totals.size(), 2u);
  const auto *outer = find(profile, "outer", "forward"), *inner = find(profile, "inner", "backward");
  ASSERT_TRUE(outer && inner);
  EXPECT_EQ(outer->count, 1);
  EXPECT_EQ(inner->count, 2);
  EXPECT_EQ(outer->flop, 100);
  EXPECT_EQ(inner->flop, 14);
  EXPECT_EQ(inner->bytes, 6);
  EXPECT_NEAR(outer->cpu_seconds, 0.02, 0.005);
  EXPECT_NEAR(inner->cpu_seconds, 0.02, 0.005);
  EXPECT_NEAR(outer->thread_seconds, 2 * outer->cpu_seconds, 1e-9);
  EXPECT_GE(profile.seconds, 0.04);
  EXPECT_LE(outer->seconds + inner->seconds, profile.seconds);  // no second is counted twice
}

TEST(Profile, ThreadsThatHaveEndedCountAndTheirLanesAreUsedAgain) {
  start_profile();
  const Span waits({"waits"});
  for (int round = 0; round < 3; ++round) {
    std::thread one([] { const Span span({"on a thread"}); });
    one.join();
  }
  const auto profile = stop_profile();
  ASSERT_TRUE(find(profile, "on a thread"));
  EXPECT_EQ(find(profile, "on a thread")->count, 3);
  EXPECT_LE(profile.lanes, 2);
}

TEST(Profile, TheTraceIsWhatChromeReads) {
  start_profile(2);
  for (int i = 0; i < 3; ++i) const Span span({"a step", "stage", 1000.0 * i, 5});
  const auto profile = stop_profile();
  EXPECT_EQ(profile.spans, 3);
  EXPECT_EQ(profile.traced, 2);
  EXPECT_EQ(find(profile, "a step", "stage")->count, 3);  // sums go on
  const auto trace = parse_json(trace_json(), "trace");
  const auto& events = trace.at("traceEvents");
  ASSERT_EQ(events.size(), 3u);  // the process's name first
  EXPECT_EQ(events[2].at("name"), "a step");
  EXPECT_EQ(events[2].at("ph"), "X");
  EXPECT_EQ(events[2].at("args").at("flop"), 1000);
  EXPECT_GE(events[2].at("ts").get<double>(),
            events[1].at("ts").get<double>() + events[1].at("dur").get<double>() - 0.001);
}

TEST(Profile, NothingIsKeptWhileItIsOff) {
  start_profile();
  stop_profile();
  { const Span span({"unseen"}); }
  start_profile();
  EXPECT_TRUE(stop_profile().totals.empty());
}

}  // namespace
}  // namespace retort
