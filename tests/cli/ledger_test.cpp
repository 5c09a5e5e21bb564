// The ledger of whole runs, from outside.
#include <signal.h>

#include <chrono>
#include <map>
#include <thread>

#include "base/hash.h"
#include "report/ledger.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

std::string recipe(const Folder& folder) {
  std::string lines;
  for (int i = 0; i < 24; ++i)
    lines += fmt::format("{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"{}\"}}\n", i + 1,
                         4 * (i + 1));
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
      "train: {{steps: 4, threads: 2, batch: {{samples: 4}}, checkpoint: {{every: 1, keep_last: 1}}}}\n"
      "eval: {{tasks: [{{kind: perplexity}}]}}\n"
      "export: {{merged: none, gguf: [Q8_0], compare_samples: 2}}\n"
      "run: {{folder: {}}}\n",
      kModel, folder.write("samples.jsonl", lines), (folder.path / "run").string());
}

std::map<std::string, int> counted(const std::vector<LedgerEntry>& entries) {
  std::map<std::string, int> counts;
  for (const auto& entry : entries) ++counts[entry.event];
  return counts;
}

TEST(LedgerOfARun, SaysWhatHappenedAndIsWhole) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  const auto result = retort("run '" + file + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  const auto entries = read_ledger(run);
  auto counts = counted(entries);
  EXPECT_EQ(entries.front().event, "started");
  EXPECT_EQ(entries.back().event, "closed");
  EXPECT_EQ(counts["training started"], 1);
  EXPECT_EQ(counts["checkpoint"], 4);
  EXPECT_EQ(counts["deleted"], 3);  // keep_last: 1
  EXPECT_EQ(counts["held-out loss"], 1);
  EXPECT_EQ(counts["training ended"], 1);
  const auto& who = entries.front().facts;
  EXPECT_EQ(who["uid"], geteuid());
  EXPECT_EQ(who["network"]["code_in_program"], false);
  const auto report = read_text(fs::path(run) / "report.html");
  for (const auto& line :
       {fmt::format("<dt>Begun</dt><dd>{}</dd>", entries.front().time),
        fmt::format("(uid {}) on {}</dd>", geteuid(), who["host"].get<std::string>()),
        fmt::format("build {}</dd>", who["build"].get<std::string>()),
        std::string("<dt>Network</dt><dd>the program has no code that opens connections; ")})
    EXPECT_NE(report.find(line), std::string::npos) << line;
  bool read_samples = false;
  std::string batches;
  std::vector<std::string> stages;
  for (const auto& [number, before, time, event, facts, hash] : entries) {
    if (event == "stage") stages.push_back(facts["stage"]);
    if (event == "checkpoint") {  // told before
      EXPECT_EQ(facts["batches_sha256"], batches);
    }
    if (event == "batches") batches = facts["batches_sha256"];
    if (event == "read")
      for (const auto& one : facts["files"])
        read_samples = read_samples || (one["path"] == (folder.path / "samples.jsonl").string() &&
                                        one["sha256"] == sha256_file(folder.path / "samples.jsonl"));
  }
  EXPECT_TRUE(read_samples);
  EXPECT_EQ(stages, (std::vector<std::string>{"samples", "compute", "evaluate base", "train",
                                              "evaluate tuned", "export adapter", "compare adapter",
                                              "export Q8_0", "compare Q8_0", "report", "cards"}));
  // The line that is shown can be noted, and found later.
  EXPECT_NE(result.out.find(fmt::format("{} entries, sha256 {}", entries.size(), entries.back().sha256)),
            std::string::npos)
      << result.out;
  EXPECT_EQ(retort("verify '" + run + "' --noted " + entries[4].sha256).exit, 0);
  const auto other = retort("verify '" + run + "' --noted " + std::string(64, 'a'));
  EXPECT_EQ(other.exit, 2);
  EXPECT_NE(other.err.find("no entry has the sha256"), std::string::npos) << other.err;
  EXPECT_EQ(retort("verify '" + run + "' --noted 12").exit, 2);

  // Nothing is added where nothing is done.
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  EXPECT_EQ(read_ledger(run).size(), entries.size());
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);

  auto text = read_text(fs::path(run) / kLedgerFile);
  text.replace(text.find("\"uid\":"), 6, "\"uie\":");
  std::ofstream(fs::path(run) / kLedgerFile, std::ios::binary) << text;
  const auto changed = retort("verify '" + run + "'");
  EXPECT_EQ(changed.exit, 2);
  EXPECT_NE(changed.out.find("ledger.jsonl: entry 1: changed"), std::string::npos) << changed.out;
  // Nothing is added to it either.
  const auto again = retort("run '" + file + "'");
  EXPECT_EQ(again.exit, 2);
  EXPECT_NE(again.err.find("nothing is added to a record that somebody changed"), std::string::npos)
      << again.err;
}

// Killed at some places, its last line torn besides: the weights are those of the run that nobody disturbed,
// the ledger is one chain, and its batches are the same.
TEST(LedgerOfARun, GoesOnBehindAKilledProcess) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  const auto run = folder.path / "run";
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto batches_of = [&] {
    std::string last;
    for (const auto& entry : read_ledger(run))
      if (entry.event == "training ended") last = entry.facts["batches_sha256"];
    return last;
  };
  const auto weights = sha256_file(run / "trained.safetensors"), batches = batches_of();
  fs::remove_all(run);

  const auto program = fmt::format("{}/retort", binary_dir());
  const auto kill_after = [&](const std::string& mark) {  // once the ledger holds it
    const pid_t child = fork();
    if (child == 0) {
      if (chdir(source_dir()) != 0 || !freopen("/dev/null", "w", stderr) ||
          !freopen("/dev/null", "w", stdout))
        _exit(99);
      execl(program.c_str(), "retort", "run", file.c_str(), nullptr);
      _exit(99);
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (std::chrono::steady_clock::now() < until && waitpid(child, nullptr, WNOHANG) == 0) {
      std::error_code none;
      if (fs::exists(run / kLedgerFile, none) && read_text(run / kLedgerFile).find(mark) != std::string::npos)
        break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  };
  kill_after("\"event\":\"checkpoint\"");
  std::ofstream(run / kLedgerFile, std::ios::app | std::ios::binary) << "{\"n\":1";
  kill_after("\"stage\":\"evaluate tuned\"");
  const auto last = retort("run '" + file + "'");
  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_EQ(sha256_file(run / "trained.safetensors"), weights);
  EXPECT_EQ(batches_of(), batches);
  auto counts = counted(read_ledger(run));
  EXPECT_EQ(counts["started"], 1);
  EXPECT_EQ(counts["mended"], 1);
  EXPECT_GE(counts["resumed"], 2);
  EXPECT_EQ(retort("verify '" + run.string() + "'").exit, 0);
}

}  // namespace
}  // namespace retort
