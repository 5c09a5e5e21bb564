// What a report says of exports that are not good, and of stages that failed.
#include "run/export_notes.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <new>

#include "base/system_failure.h"
#include "run/run_stages.h"

namespace retort {
namespace {

Artefact artefact(const std::string& kind, const std::string& label, double delta_error = 0) {
  return {kind, label, "export/x", 0, {}, delta_error};
}

TEST(ExportNotes, NameTheRatingAndTheCause) {
  const Agreement broken{100, 0.456, 3, 0.69, 1, 2}, good{100, 0.056, 1, 0.94, 1, 1.1};
  const ModelSpec nf4{.path = "m", .weights = "nf4"}, keep{.path = "m"};
  EXPECT_EQ(
      describe_fidelity(artefact("gguf", "Q4_K_M"), broken, nf4),
      "The file is rated broken: it differs from the trained model by 0.456 nats a token, and chooses the "
      "same token in 69.0 % of the places. The cause: the base was held as nf4 while it was trained "
      "(model.weights), and Q4_K_M rounds once more what nf4 had rounded; model.weights: keep trains on "
      "the weights of the file itself, and the export then loses several times less.");
  EXPECT_NE(describe_fidelity(artefact("gguf", "Q2_K"), broken, keep).find("Q2_K keeps too few bits"),
            std::string::npos);
  EXPECT_NE(describe_fidelity(artefact("safetensors", "BF16"), broken, nf4).find("export.merged: f32"),
            std::string::npos);
  EXPECT_NE(describe_fidelity(artefact("peft", "LoRA"), broken, keep).find("a mistake of retort's"),
            std::string::npos);
  EXPECT_EQ(describe_fidelity(artefact("gguf", "Q4_K_M"), good, nf4), "");
}

TEST(ExportNotes, RoundingThatIsLargerThanTheTrainingIsASentence) {
  EXPECT_EQ(
      describe_rounding(artefact("safetensors", "BF16", 4.91)),
      "The training changed one layer by less than BF16 can tell apart: rounding moves the weights of that "
      "layer 4.9 times as far as the training did. export.merged: f32, or the adapter, keep what was "
      "trained.");
  EXPECT_EQ(
      describe_rounding(artefact("safetensors", "BF16", 0.23)),
      "Rounding to BF16 moves the weights of one layer by 23 % of what the training moved them, less in "
      "the others. export.merged: f32, or the adapter, keep what was trained.");
  EXPECT_EQ(describe_rounding(artefact("safetensors", "BF16", 0.01)), "");
  auto f8 = artefact("safetensors", "F8_E4M3", 0.97);
  for (int i = 0; i < 7; ++i) f8.vanished.push_back(fmt::format("m{} (3 % of its update is left)", i));
  const auto line = describe_rounding(f8);
  EXPECT_NE(line.find("less in the others. Most of the update vanished in 7 of its matrices: m0 (3 % of its "
                      "update is left), m1 "),
            std::string::npos)
      << line;
  EXPECT_NE(line.find("m4 (3 % of its update is left) and 2 more. export.merged: f32"), std::string::npos)
      << line;
}

TEST(StageFailures, WhatRetortWroteIsNoBadInput) {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_failures_{}", getpid());
  std::filesystem::create_directories(folder / "run/export");
  const auto users = (folder / "questions.jsonl").string(), own = (folder / "run/export/m.gguf").string();
  std::ofstream(users) << "{";
  std::ofstream(own) << "GGUF";
  const auto exit = [&](const std::exception& error) { return failure_of("x", folder / "run", error).exit; };
  EXPECT_EQ(exit(FormatError(own + ": blk.0: this tensor stands twice")), Exit::machine_failed);
  EXPECT_EQ(exit(FormatError("unknown model family 'x'")), Exit::machine_failed);
  EXPECT_EQ(exit(FormatError(users + ":1: is not valid JSON")), Exit::bad_input);
  EXPECT_EQ(exit(RecipeError("export: w has values of up to 1e9, which F16 cannot hold")), Exit::bad_input);
  EXPECT_EQ(exit(PassingFailure("disk full")), Exit::machine_failed);
  EXPECT_EQ(exit(std::bad_alloc()), Exit::machine_failed);
  const auto ours = failure_of("x", folder / "run", std::out_of_range("map::at\n#1 frame"));
  EXPECT_EQ(ours.exit, Exit::machine_failed);
  EXPECT_EQ(ours.reason,
            "map::at; this is a mistake of retort's, not of your recipe or data; please report it");
  const StageFailure machine{"a", "", Exit::machine_failed}, input{"b", "", Exit::bad_input};
  EXPECT_EQ(exit_of({}, Exit::gate_failed), Exit::gate_failed);
  EXPECT_EQ(exit_of({input}, Exit::gate_failed), Exit::bad_input);
  EXPECT_EQ(exit_of({input, machine}, Exit::done), Exit::machine_failed);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace retort
