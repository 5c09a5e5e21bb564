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
  const auto text = to_json({task}, KeepSamples::yes).dump();
  EXPECT_EQ(tasks_from(Json::parse(text))[0].samples[0].got, "\uFFFDr");
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
