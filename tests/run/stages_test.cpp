#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "run/run_stages.h"
#include "run/stages.h"

namespace retort {

namespace fs = std::filesystem;

class Stages : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder); }
  void TearDown() override { fs::remove_all(folder); }
  // Runs a stage that writes out.txt; true when it was skipped.
  bool skipped(const StageInputs& from) {
    StageLedger ledger(folder);
    const auto result = ledger.run("stage", from, {"out.txt", "deep"}, [&] {
      std::ofstream(folder / "out.txt") << "done";
      fs::create_directories(folder / "deep");
      std::ofstream(folder / "deep" / "a") << "a";
      return Json{{"loss", 1.25}};
    });
    EXPECT_EQ(result.values["loss"], 1.25);
    return result.skipped;
  }
  fs::path folder = fs::temp_directory_path() / fmt::format("retort_stages_{}", getpid());
  StageInputs inputs = StageInputs().add("recipe", "a: 1");
};

TEST(TaskResults, AnswersThatEndWithinACharacterAreKept) {
  TaskResult task{"t", "completion", {{"exact_match", 0}}, {{"f:1", "\u00e9t\u00e9", "\xc3r", 0}}, 1, 1, 0};
  const auto file = fs::temp_directory_path() / fmt::format("retort_tasks_{}.json", getpid());
  write_tasks(file, {task});
  EXPECT_EQ(read_tasks(file)[0].samples[0].got, "\uFFFDr");
  fs::remove(file);
}

TEST_F(Stages, ASecondRunSkipsWhatIsDone) {
  EXPECT_FALSE(skipped(inputs));
  EXPECT_TRUE(skipped(inputs));
}

TEST_F(Stages, AnythingThatChangedRunsTheStageAgain) {
  EXPECT_FALSE(skipped(inputs));
  EXPECT_FALSE(skipped(StageInputs().add("recipe", "a: 2")));
  EXPECT_FALSE(skipped(StageInputs().add("recipf", "a: 2")));
  EXPECT_FALSE(skipped(StageInputs().add("recipe", "a: 2").add("more", "")));
}

TEST_F(Stages, AnOutputThatIsGoneOrChangedRunsTheStageAgain) {
  EXPECT_FALSE(skipped(inputs));
  std::ofstream(folder / "out.txt") << "donf";
  EXPECT_FALSE(skipped(inputs));
  fs::remove(folder / "deep" / "a");
  EXPECT_FALSE(skipped(inputs));
  EXPECT_TRUE(skipped(inputs));
}

// A run that is refused leaves the record as it was.
TEST_F(Stages, WhatIsHeldIsNotWrittenBeforeItIsLetGo) {
  EXPECT_FALSE(skipped(inputs));
  const auto before = read_text(folder / "stages.json");
  {
    StageLedger ledger(folder);
    ledger.hold();
    ledger.run("stage", StageInputs().add("recipe", "a: 2"), {"out.txt"}, [] { return Json{}; });
    EXPECT_EQ(read_text(folder / "stages.json"), before);
  }
  EXPECT_TRUE(skipped(inputs));
  StageLedger ledger(folder);
  ledger.hold();
  ledger.run("stage", StageInputs().add("recipe", "a: 2"), {"out.txt"}, [] { return Json{}; });
  ledger.let_go();
  EXPECT_NE(read_text(folder / "stages.json"), before);
}

// The file is JSON, and not what this program writes: a line that names file and field, never an internal
// error.
TEST_F(Stages, ALedgerOfWrongTypesIsALineWithFileAndField) {
  const auto refusal = [&](const std::string& text) -> std::string {
    std::ofstream(folder / "stages.json") << text;
    try {
      StageLedger ledger(folder);
      ledger.run("samples", inputs, {}, []() -> SamplesResult { throw Failure("the stage is not skipped"); });
    } catch (const FormatError& error) { return error.what(); }
    return "no refusal";
  };
  const auto line = [&](const std::string& problem) {
    return fmt::format("{}: {}; move it away to start the run again", (folder / "stages.json").string(),
                       problem);
  };
  EXPECT_EQ(refusal("[]"), line("expected an object, found []"));
  EXPECT_EQ(refusal("{}"), line("version: is missing"));
  EXPECT_EQ(refusal(R"({"version":"1"})"), line("version: expected a whole number, found \"1\""));
  EXPECT_EQ(refusal(R"({"version":2})"), line("is not a ledger of this version"));
  EXPECT_EQ(refusal(R"({"version":1,"stages":{},"read":1})"), line("read: expected a list, found 1"));
  EXPECT_EQ(refusal(R"({"version":1,"stages":{},"read":[1]})"), line("read[0]: expected a text, found 1"));
  EXPECT_EQ(refusal(R"({"version":1,"stages":[],"read":[]})"), line("stages: expected an object, found []"));
  const auto with = [&](const std::string& outputs, const std::string& values) {
    const Json stage = {{"inputs", inputs.sha256()},
                        {"seconds", 1},
                        {"outputs", Json::parse(outputs)},
                        {"values", Json::parse(values)}};
    return refusal(Json{{"version", 1}, {"read", Json::array()}, {"stages", {{"samples", stage}}}}.dump());
  };
  EXPECT_EQ(with("7", "{}"), line("stages.samples.outputs: expected a list, found 7"));
  EXPECT_EQ(with(R"([{"path":"a","bytes":-1,"sha256":""}])", "{}"),
            line("stages.samples.outputs[0].bytes: expected a whole number that is not negative, found -1"));
  EXPECT_EQ(with("[]", "[]"), line("stages.samples.values: expected an object, found []"));
  EXPECT_EQ(with("[]", R"({"train":"x"})"),
            line("stages.samples.values.train: expected a whole number, found \"x\""));
  EXPECT_EQ(with("[]", R"({"train":1,"held_out":2,"tokens":3,"supervised":4,"notes":[]})"), "no refusal");
}

TEST_F(Stages, AStageThatFailedIsNotRecorded) {
  EXPECT_FALSE(skipped(inputs));
  StageLedger ledger(folder);
  const auto other = StageInputs().add("recipe", "a: 2");
  EXPECT_THROW(ledger.run("stage", other, {"out.txt"}, []() -> Json { throw Failure("disk full"); }),
               Failure);
  bool ran = false;
  StageLedger(folder).run("stage", other, {"out.txt"}, [&] {
    ran = true;
    return Json{};
  });
  EXPECT_TRUE(ran);
}

}  // namespace retort
