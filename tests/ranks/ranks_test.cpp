// retort-ranks from outside, by mpirun: any number of ranks gives the bytes of one process, and a rank that
// ends, stops or differs ends them all.
#include <signal.h>

#include <charconv>
#include <chrono>
#include <functional>
#include <thread>

#include "base/files.h"
#include "cli/run_program.h"  // tests/cli
#include "run/run_folder.h"
#include "where.h"            // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 16;  // more than those before the second checkpoint
constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

Result by_ranks(int count, const std::string& arguments) {
  return run_program("retort-ranks", arguments,
                     fmt::format("mpirun --allow-run-as-root --oversubscribe --bind-to none -n {}", count),
                     "run");
}

class RanksProgram : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(fs::path(source_dir()) / kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
    if (std::system("mpirun --version >/dev/null 2>&1") != 0)
      GTEST_SKIP() << "mpirun is absent: run tools/setup mpi";
    std::string lines;
    for (int i = 0; i < 24; ++i)
      lines += fmt::format("{{\"prompt\": \"{} hives and {}?\", \"completion\": \"{} hives\"}}\n", i, i + 7,
                           2 * i + 7);
    samples = folder.write("samples.jsonl", lines);
    recipe = write_recipe("recipe.yaml", 4);
  }
  std::string write_recipe(const std::string& name, int steps) const {
    return folder.write(name,
                        fmt::format("model: {{path: {}, compute: f32}}\n"
                                    "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
                                    "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
                                    "train: {{steps: {}, threads: 1, batch: {{samples: 6, pass_tokens: 64}},\n"
                                    "        evaluate: {{every: 2}}, checkpoint: {{every: 1}}}}\n"
                                    "eval: {{tasks: []}}\n"
                                    "export: {{adapter: true, merged: none, gguf: []}}\n"
                                    "run: {{folder: {}}}\n",
                                    kModel, samples, steps, run().string()));
  }
  fs::path run() const { return folder.path / "run"; }
  std::string in(const std::string& name) const {
    return fmt::format("'{}' run.folder={}", recipe, (folder.path / name).string());
  }
  std::string trained(const std::string& name) const {
    return read_text(folder.path / name / "trained.safetensors");
  }
  fs::path folder_of_rank_1() const { return folder.path / ".run.retort-rank-1"; }

  // Starts two ranks in run(), waits for the second checkpoint, and then does something to rank 1.
  Result disturbed(const std::string& more, const std::function<void(pid_t rank_1)>& disturb) {
    Result result;
    const auto arguments = fmt::format("'{}' train.steps={} {}", recipe, kSteps, more);
    std::thread ranks([&] { result = by_ranks(2, arguments); });
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    while (!fs::exists(run() / "checkpoints/step-00000002") && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    // "process 123 on node-a": who trains there.
    const auto lock = folder_of_rank_1() / "train.lock";
    const auto text = fs::exists(lock) ? read_text(lock) : "";
    pid_t process = 0;
    constexpr std::string_view before = "process ";
    EXPECT_TRUE(text.starts_with(before)) << text;
    std::from_chars(text.data() + before.size(), text.data() + text.size(), process);
    EXPECT_GT(process, 1) << text;
    if (process > 1) disturb(process);
    ranks.join();
    return result;
  }

  Folder folder;
  std::string samples, recipe;
};

}  // namespace

TEST_F(RanksProgram, OneTwoAndThreeRanksTrainWhatOneProcessTrains) {
  ASSERT_EQ(retort(in("alone"), "", "run").exit, 0);
  for (int ranks = 1; ranks <= 3; ++ranks) {
    const auto name = fmt::format("ranks-{}", ranks);
    const auto result = by_ranks(ranks, in(name));
    ASSERT_EQ(result.exit, 0) << result.err;
    EXPECT_TRUE(trained(name) == trained("alone")) << ranks;
    EXPECT_EQ(read_text(folder.path / name / "metrics.jsonl"),
              read_text(folder.path / "alone/metrics.jsonl"));
    EXPECT_TRUE(fs::exists(folder.path / name / "export/adapter/adapter_model.safetensors"));
    EXPECT_FALSE(fs::exists(folder.path / fmt::format(".{}.retort-rank-1", name)));  // removed at the end
  }
}

TEST_F(RanksProgram, AKilledRankEndsAllAndAnotherNumberOfRanksGoesOnToTheSameBytes) {
  const auto result = disturbed("", [](pid_t rank_1) { ::kill(rank_1, SIGKILL); });
  EXPECT_EQ(result.exit, 3) << result.err;
  EXPECT_NE(result.err.find("retort-ranks: rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("was ended by signal 9"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run() / "trained.safetensors"));
  const auto steps = fmt::format(" train.steps={}", kSteps);
  ASSERT_EQ(by_ranks(1, in("alone") + steps).exit, 0);
  const auto resumed = by_ranks(3, "'" + recipe + "'" + steps);
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_EQ(read_text(run() / "metrics.jsonl"), read_text(folder.path / "alone/metrics.jsonl"));
  EXPECT_TRUE(trained("run") == trained("alone"));
}

TEST_F(RanksProgram, ARankOfWhichNothingIsHeardEndsAll) {
  auto since = std::chrono::steady_clock::now();
  const auto result = disturbed("--patience 5", [&](pid_t rank_1) {
    since = std::chrono::steady_clock::now();
    ::kill(rank_1, SIGSTOP);
  });
  EXPECT_LT(std::chrono::steady_clock::now() - since, std::chrono::seconds(15));
  EXPECT_EQ(result.exit, 3) << result.err;
  EXPECT_NE(result.err.find("retort-ranks: rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("nothing was heard of it for"), std::string::npos) << result.err;
}

TEST_F(RanksProgram, AStopOfOneRankStopsAllWithEverythingSaved) {
  const auto result = disturbed("", [](pid_t rank_1) { ::kill(rank_1, SIGTERM); });
  EXPECT_EQ(result.exit, 75) << result.err;
  EXPECT_NE(result.err.find("retort-ranks: rank 0 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("stopped while training; everything done so far is saved"), std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(run() / "trained.safetensors"));
  EXPECT_FALSE(fs::exists(folder_of_rank_1()));  // its samples are not left behind
}

TEST_F(RanksProgram, ARankWithAnotherRecipeIsRefusedByName) {
  const auto other = write_recipe("other.yaml", 5);
  const auto result = run_program(
      "retort-ranks", fmt::format("'{}' : -n 1 '{}/retort-ranks' run '{}'", recipe, binary_dir(), other),
      "mpirun --allow-run-as-root --oversubscribe --bind-to none -n 1", "run");
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(" is not equal to rank 0 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(": recipe: "), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run()));
}

TEST_F(RanksProgram, WhatRanksCannotDivideIsRefusedBeforeAnythingIsRead) {
  const auto result = by_ranks(2, "'" + recipe + "' model.schedule=layers");
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("model.schedule: layers: retort-ranks cannot divide that"), std::string::npos)
      << result.err;
  EXPECT_FALSE(fs::exists(run()));
}

}  // namespace retort
