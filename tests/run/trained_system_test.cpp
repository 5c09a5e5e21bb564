#include "run/trained_system.h"

#include <gtest/gtest.h>

namespace retort {

namespace {

DataSpec spec(const std::vector<std::string>& systems) {
  DataSpec data;
  for (const auto& system : systems) data.sources.emplace_back().system = system;
  return data;
}

Record record(const std::string& system) {
  Record record;
  if (!system.empty()) record.messages.push_back({"system", system});
  record.messages.push_back({"user", "Why?"});
  record.messages.push_back({"assistant", "So."});
  return record;
}

}  // namespace

TEST(TrainedSystem, IsWhatAllSourcesSay) {
  EXPECT_EQ(trained_system(spec({"Answer with {{code}}.", "Answer with {{code}}."}), {}, false),
            "Answer with {code}.");
  EXPECT_EQ(trained_system(spec({"Be brief.", "Be long."}), {}, false), "");
  EXPECT_EQ(trained_system(spec({"Be brief.", ""}), {}, false), "");
  EXPECT_EQ(trained_system(spec({"You are {name}."}), {}, false), "");
  auto data = spec({"Be brief.", "You are asked."});
  data.sources[1].use = "held_out";
  EXPECT_EQ(trained_system(data, {}, false), "Be brief.");
  data.sources[1].use = "both", data.sources[1].kind = "text";
  EXPECT_EQ(trained_system(data, {}, false), "Be brief.");
}

// A record's own system message goes before the recipe's.
TEST(TrainedSystem, IsNoneWhereRecordsBringOthers) {
  EXPECT_EQ(trained_system(spec({"Be brief."}), {record("Be brief."), record("Be brief.")}, false),
            "Be brief.");
  EXPECT_EQ(trained_system(spec({"Be brief."}), {record("Be brief."), record("Be long.")}, false), "");
  EXPECT_EQ(trained_system(spec({""}), {record("Be long."), record("Be long.")}, false), "Be long.");
  EXPECT_EQ(trained_system(spec({""}), {record("Be long."), record("")}, false), "");
  EXPECT_EQ(trained_system(spec({""}), {record("")}, false), "");
  EXPECT_EQ(trained_system(spec({""}), {record("Be long.")}, true), "") << "a text of a private record";
  EXPECT_EQ(trained_system(spec({"Be brief."}), {record("Be brief.")}, true), "Be brief.");
}

}  // namespace retort
