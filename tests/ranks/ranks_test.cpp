// retort-ranks from outside, by mpirun: any number of ranks gives the bytes of one process, and a rank that
// ends, stops or differs ends them all.
#include <signal.h>

#include <charconv>
#include <chrono>
#include <functional>
#include <map>
#include <thread>

#include "base/files.h"
#include "cli/run_program.h"  // tests/cli
#include "formats/weight_file.h"
#include "run/run_folder.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr int kSteps = 16;  // more than those before the second checkpoint
constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

Result by_ranks(int count, const std::string& arguments, const std::string& command = "run") {
  return run_program("retort-ranks", arguments,
                     fmt::format("mpirun --allow-run-as-root --oversubscribe --bind-to none -n {}", count),
                     command);
}

// Rank 0 as ever, and rank 1 by this command.
Result beside(const std::string& recipe, const std::string& rank_1) {
  return run_program("retort-ranks", fmt::format("'{}' : -n 1 {}", recipe, rank_1),
                     "mpirun --allow-run-as-root --oversubscribe --bind-to none -n 1", "run");
}

// A copy of the program whose build id has another last byte.
void write_other_build(const fs::path& file) {
  auto program = read_text(fs::path(binary_dir()) / "retort-ranks");
  const std::string note("\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0", 16);
  constexpr size_t kIdBytes = 20;
  const auto at = program.find(note);
  ASSERT_NE(at, std::string::npos) << "the linker writes no build id";
  program[at + note.size() + kIdBytes - 1] ^= 1;
  write_text(file, program);
  fs::permissions(file, fs::perms::owner_all);
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
  std::string write_recipe(const std::string& name, int steps, const std::string& more = "",
                           const std::string& tasks = "") const {
    return folder.write(
        name, fmt::format("model: {{path: {}, compute: f32}}\n"
                          "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
                          "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
                          "train: {{steps: {}, threads: 1, batch: {{samples: 6, pass_tokens: 64}},\n"
                          "        evaluate: {{every: 2}}, checkpoint: {{every: 1}}}}\n"
                          "eval: {{threads: 1, pass_tokens: 64, tasks: [{}]}}\n"
                          "export: {{adapter: true, merged: none, gguf: []}}\n"
                          "run: {{folder: {}}}\n{}",
                          kModel, samples, steps, tasks, run().string(), more));
  }
  fs::path run() const { return folder.path / "run"; }
  std::string in(const std::string& name) const { return in(name, recipe); }
  std::string in(const std::string& name, const std::string& of) const {
    return fmt::format("'{}' run.folder={}", of, (folder.path / name).string());
  }
  // A teacher that is asked once, whose cache is kept in the run's folder.
  std::string taught_recipe() const {
    return write_recipe("taught.yaml", 3,
                        fmt::format("teacher: {{path: {}, compute: f32, threads: 1, pass_tokens: 64,\n"
                                    "          keep: {{part_positions: 64}}}}\n"
                                    "distill: {{loss: forward_kl, weight: 0.5, baseline: false}}\n",
                                    kModel));
  }
  // Name -> bytes of the files of a teacher's cache.
  std::map<std::string, std::string> cache_in(const std::string& name) const {
    std::map<std::string, std::string> parts;
    for (const auto& entry : fs::directory_iterator(folder.path / name / "teacher"))
      if (entry.path().extension() == ".h5")
        parts[entry.path().filename().string()] = read_text(entry.path());
    return parts;
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

TEST_F(RanksProgram, WhereItsPartsAreGivenTwoRanksOfOneThreadAreOneProcessOfTwo) {
  const std::string parts = " train.batch.parts=4 train.threads=";
  ASSERT_EQ(retort(in("alone") + parts + "2", "", "run").exit, 0);
  const auto result = by_ranks(2, in("ranks") + parts + "1");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_TRUE(trained("ranks") == trained("alone"));
  EXPECT_EQ(read_text(folder.path / "ranks/metrics.jsonl"), read_text(folder.path / "alone/metrics.jsonl"));
}

TEST_F(RanksProgram, ScoresOfHeldOutTextsAreThoseOfOneProcess) {
  const auto scored = write_recipe("scored.yaml", 2, "",
                                   "{kind: perplexity}, {kind: membership, limit: 4}, "
                                   "{kind: completion, limit: 2, max_tokens: 4}");
  ASSERT_EQ(retort(in("alone", scored), "", "run").exit, 0);
  const auto result = by_ranks(3, in("ranks", scored));
  ASSERT_EQ(result.exit, 0) << result.err;
  for (const auto* file : {"eval/base.json", "eval/tuned.json"}) {
    const auto alone = read_text(folder.path / "alone" / file);
    EXPECT_NE(alone.find("nats_per_token"), std::string::npos);
    EXPECT_TRUE(read_text(folder.path / "ranks" / file) == alone) << file;
  }
}

TEST_F(RanksProgram, ATeachersCacheAndWhatIsLearnedFromItAreThoseOfOneProcess) {
  const auto taught = taught_recipe();
  ASSERT_EQ(retort(in("alone", taught), "", "run").exit, 0);
  const auto cache = cache_in("alone");
  EXPECT_FALSE(cache.empty());
  const auto result = by_ranks(3, in("ranks", taught));
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_TRUE(cache_in("ranks") == cache);
  EXPECT_TRUE(trained("ranks") == trained("alone"));
  EXPECT_FALSE(fs::exists(folder.path / ".ranks.retort-rank-1"));

  const auto teaching = by_ranks(2, in("cache", taught), "teach");
  ASSERT_EQ(teaching.exit, 0) << teaching.err;
  EXPECT_TRUE(cache_in("cache") == cache);
  EXPECT_NE(teaching.out.find("positions"), std::string::npos) << teaching.out;
  const auto again = by_ranks(2, in("cache", taught), "teach");
  EXPECT_EQ(again.exit, 0) << again.err;
  EXPECT_NE(again.out.find("nothing was missing"), std::string::npos) << again.out;
}

// Each rank reads some of its layers, and hands what left them to the next.
TEST_F(RanksProgram, ATeacherReadLayerByLayerIsDividedByLayersToTheSameBytes) {
  const auto taught = taught_recipe();
  ASSERT_EQ(retort(in("alone", taught), "", "teach").exit, 0);
  const auto cache = cache_in("alone");
  EXPECT_FALSE(cache.empty());
  for (int ranks = 1; ranks <= 3; ++ranks) {
    const auto name = fmt::format("layers-{}", ranks);
    const auto result =
        by_ranks(ranks, in(name, taught) + " teacher.schedule=layers teacher.memory=40MiB", "teach");
    ASSERT_EQ(result.exit, 0) << result.err;
    EXPECT_TRUE(cache_in(name) == cache) << ranks;
    EXPECT_NE(result.err.find(fmt::format("layers divided by {} ", ranks)), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("to 29 ("), std::string::npos) << result.err;
  }
}

TEST_F(RanksProgram, ALayerThatCannotBeReadIsALineOfTheRankThatReadsIt) {
  const auto copy = folder.path / "damaged.gguf";
  auto bytes = read_text(fs::path(source_dir()) / kModel);
  {
    const auto file = open_gguf(fs::path(source_dir()) / kModel);
    const auto* tensor = file.find("blk.29.ffn_up.weight");
    ASSERT_NE(tensor, nullptr);
    ASSERT_EQ(tensor->type, WeightType::q4_1);
    const auto at = static_cast<size_t>(tensor->data.data() - tensor->file->bytes().data());
    bytes.replace(at, 2, "\xff\x7f");  // the scale of the first block is none: fp16's NaN
  }
  write_text(copy, bytes);
  const auto taught = taught_recipe();
  const auto result = by_ranks(
      2,
      in("damaged", taught) + " teacher.schedule=layers teacher.memory=40MiB teacher.path=" + copy.string(),
      "teach");
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("retort-ranks: rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("blk.29.ffn_up.weight"), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("not finite"), std::string::npos) << result.err;
}

TEST_F(RanksProgram, ScoresOfAModelReadLayerByLayerAreThoseOfOneProcess) {
  const auto scored = folder.write(
      "scored.yaml", fmt::format("model: {{path: {}, compute: f32}}\n"
                                 "data: {{sources: [{{path: {}}}], held_out: {{count: 8}}}}\n"
                                 "adapter: {{kind: none}}\n"
                                 "eval: {{threads: 1, pass_tokens: 64, tasks: [{{kind: perplexity}}]}}\n"
                                 "export: {{adapter: false, merged: none, gguf: []}}\n"
                                 "run: {{folder: {}}}\n",
                                 kModel, samples, run().string()));
  ASSERT_EQ(retort(in("alone", scored), "", "run").exit, 0);
  const auto result = by_ranks(2, in("ranks", scored) + " model.schedule=layers model.memory=40MiB");
  ASSERT_EQ(result.exit, 0) << result.err;
  const auto alone = read_text(folder.path / "alone/eval/base.json");
  EXPECT_NE(alone.find("nats_per_token"), std::string::npos);
  EXPECT_TRUE(read_text(folder.path / "ranks/eval/base.json") == alone);
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
  EXPECT_NE(result.err.find(": stopped while "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("; everything done so far is saved"), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run() / "trained.safetensors"));
  EXPECT_FALSE(fs::exists(folder_of_rank_1()));  // its samples are not left behind
}

TEST_F(RanksProgram, ARankWithAnotherRecipeIsRefusedByName) {
  const auto other = write_recipe("other.yaml", 5);
  const auto result = beside(recipe, fmt::format("'{}/retort-ranks' run '{}'", binary_dir(), other));
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(" is not equal to rank 0 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(": recipe: "), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run()));
}

TEST_F(RanksProgram, ARankOfAnotherBuildIsRefusedByName) {
  const auto other = folder.path / "other-build";
  write_other_build(other);
  if (HasFatalFailure()) return;
  const auto result = beside(recipe, fmt::format("'{}' run '{}'", other.string(), recipe));
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(" is not equal to rank 0 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find(": program: "), std::string::npos) << result.err;
  EXPECT_FALSE(fs::exists(run()));
}

// Only rank 1 sees the small disk; it keeps its samples there.
TEST_F(RanksProgram, ARankWithAFullDiskEndsAllWithItsLine) {
  fs::create_directories(folder_of_rank_1());
  const auto mount =
      fmt::format("mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs '{}'", folder_of_rank_1().string());
  if (std::system(fmt::format("unshare -m sh -c \"{}\" 2>/dev/null", mount).c_str()) != 0)
    GTEST_SKIP() << "no file system may be mounted here";
  const auto rank_1 = fmt::format("{} && exec '{}/retort-ranks' run '{}'", mount, binary_dir(), recipe);
  const auto result = beside(recipe, fmt::format("unshare -m sh -c \"{}\"", rank_1));
  EXPECT_EQ(result.exit, 3) << result.err;
  EXPECT_NE(result.err.find("retort-ranks: rank 1 on "), std::string::npos) << result.err;
  EXPECT_NE(result.err.find("No space left on device"), std::string::npos) << result.err;
  fs::remove_all(folder_of_rank_1());
  ASSERT_EQ(retort(in("alone"), "", "run").exit, 0);
  const auto resumed = by_ranks(2, "'" + recipe + "'");
  ASSERT_EQ(resumed.exit, 0) << resumed.err;
  EXPECT_TRUE(trained("run") == trained("alone"));
}

TEST_F(RanksProgram, AProcessOfSeveralThatMpiDidNotStartIsRefused) {
  const auto result =
      run_program("retort-ranks", "'" + recipe + "'", "env -u OMPI_COMM_WORLD_SIZE WORLD_SIZE=2", "run");
  EXPECT_EQ(result.exit, 2) << result.err;
  EXPECT_NE(result.err.find("this is one of 2 processes (WORLD_SIZE=2, as torchrun sets it)"),
            std::string::npos)
      << result.err;
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
