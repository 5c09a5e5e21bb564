#include "run/who.h"

#include <gtest/gtest.h>

namespace retort {
namespace {

LedgerEntry entry(const std::string& time, const std::string& event,
                  OrderedJson facts = OrderedJson::object()) {
  LedgerEntry entry;
  entry.time = time, entry.event = event, entry.facts = std::move(facts);
  return entry;
}

TEST(BeginningOf, SaysWhoWhereAndWhatCouldReachANetwork) {
  const auto facts = beginning_of(
      {entry("10:00", "started",
             {{"user", "anna"},
              {"uid", 1001},
              {"host", "ward-3"},
              {"program", "retort 0.1.0"},
              {"build", "abc"},
              {"network", {{"code_in_program", false}, {"interfaces", OrderedJson::array({"lo", "eth0"})}}}}),
       entry("10:05", "stage"), entry("11:00", "resumed"), entry("12:00", "resumed"),
       entry("12:30", "closed")});
  EXPECT_EQ(facts,
            (std::vector<std::pair<std::string, std::string>>{
                {"Begun", "10:00"},
                {"By", "anna (uid 1001) on ward-3"},
                {"Program", "retort 0.1.0, build abc"},
                {"Network",
                 "the program has no code that opens connections; interfaces that it was shown: lo, eth0"},
                {"Went on", "2 times, the last at 12:00"}}));
}

TEST(BeginningOf, ALedgerWithoutABeginningSaysNothing) {
  EXPECT_TRUE(beginning_of({}).empty());
  const auto bare = beginning_of({entry("10:00", "started")});
  ASSERT_EQ(bare.size(), 4u);
  EXPECT_EQ(bare[3], (std::pair<std::string, std::string>("Network", "not recorded")));
}

}  // namespace
}  // namespace retort
