// Whole runs of the built program on SmolLM2 and a handful of samples of our own.
#include <signal.h>

#include <chrono>
#include <map>
#include <thread>

#include "base/hash.h"
#include "base/json.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

std::string samples() {
  std::string lines;
  for (int i = 0; i < 24; ++i)
    lines += fmt::format("{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"{}\"}}\n", i + 1,
                         4 * (i + 1));
  return lines;
}

std::string recipe(const Folder& folder, const std::string& more = "") {
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj, v_proj]}}\n"
      "train: {{steps: 3, threads: 2, batch: {{samples: 4}}, checkpoint: {{every: 1}}}}\n"
      "eval: {{tasks: [{{kind: completion, limit: 2, max_tokens: 4}}, {{kind: perplexity}}]}}\n"
      "export: {{merged: none, gguf: [Q8_0], gguf_adapter: true, compare_samples: 2}}\n"
      "run: {{folder: {}}}\n{}",
      kModel, folder.write("samples.jsonl", samples()), (folder.path / "run").string(), more);
}

// What a run of a recipe must end with whatever happened on the way.
std::map<std::string, std::string> results_of(const fs::path& run) {
  std::map<std::string, std::string> hashes;
  for (const auto* name : {"trained.safetensors", "metrics.jsonl", "export/model-Q8_0.gguf",
                           "export/adapter/adapter_model.safetensors", "export/adapter.gguf"})
    hashes[name] = sha256_file(run / name);
  return hashes;
}

TEST(Run, ABaseThatIsReadLayerByLayerEndsWithTheSameBytes) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto in_memory = recipe(folder);
  auto in_file = in_memory;
  in_file.replace(in_file.find("compute: f32"), 12, "compute: f32, schedule: layers, memory: 24MiB");
  in_file.replace(in_file.find((folder.path / "run").string()), (folder.path / "run").string().size(),
                  (folder.path / "layers").string());
  const auto one = retort("run '" + folder.write("r.yaml", in_memory) + "'"),
             other = retort("run '" + folder.write("layers.yaml", in_file) + "'");
  ASSERT_EQ(one.exit, 0) << one.err;
  ASSERT_EQ(other.exit, 0) << other.err;
  EXPECT_EQ(one.err.find("schedule"), std::string::npos) << one.err;
  EXPECT_NE(other.err.find("stay in the file"), std::string::npos) << other.err;
  EXPECT_EQ(results_of(folder.path / "run"), results_of(folder.path / "layers"));
  const auto metrics = [&](const char* run) {
    std::string all;
    for (const auto& task : read_json(folder.path / run / "eval/tuned.json")) all += task["metrics"].dump();
    return all;
  };
  EXPECT_FALSE(metrics("run").empty());
  EXPECT_EQ(metrics("run"), metrics("layers"));
  // `check` says how it will be read.
  EXPECT_NE(retort("check '" + (folder.path / "layers.yaml").string() + "'").out.find("stay in the file"),
            std::string::npos);
}

TEST(Run, TrainsExportsAndFindsAllDoneTheSecondTime) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  const auto first = retort("run '" + file + "'");
  ASSERT_EQ(first.exit, 0) << first.err;
  EXPECT_NE(first.out.find("export/model-Q8_0.gguf"), std::string::npos) << first.out;
  for (const auto* name : {"report.html", "manifest.json", "recipe.yaml", "eval/base.json", "eval/tuned.json",
                           "export/model-Q8_0.Modelfile"})
    EXPECT_TRUE(fs::exists(folder.path / "run" / name)) << name;
  const auto before = results_of(folder.path / "run");
  EXPECT_EQ(retort("verify '" + (folder.path / "run").string() + "'").exit, 0);

  const auto second = retort("run '" + file + "'");
  EXPECT_EQ(second.exit, 0) << second.err;
  EXPECT_EQ(second.out, first.out);
  for (size_t at = 0; at < second.err.size();) {  // every stage
    const auto end = second.err.find('\n', at);
    EXPECT_NE(second.err.substr(at, end - at).find("(done before)"), std::string::npos)
        << second.err.substr(at, end - at);
    at = end == std::string::npos ? second.err.size() : end + 1;
  }
  EXPECT_EQ(results_of(folder.path / "run"), before);

  // A bound that cannot hold: exit 1, and the line says which.
  const auto broken = retort(
      "run '" +
      folder.write("r.yaml", recipe(folder, "gate: [{metric: perplexity.perplexity, at_most: 0.5}]\n")) +
      "'");
  EXPECT_EQ(broken.exit, 1) << broken.err;
  EXPECT_NE(broken.out.find("at most 0.5: failed"), std::string::npos) << broken.out;

  // One flipped byte is named.
  const auto adapter = folder.path / "run/export/adapter/adapter_model.safetensors";
  auto bytes = read_text(adapter);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  std::ofstream(adapter) << bytes;
  const auto verified = retort("verify '" + (folder.path / "run").string() + "'");
  EXPECT_EQ(verified.exit, 2);
  EXPECT_NE((verified.out + verified.err).find("export/adapter/adapter_model.safetensors"), std::string::npos)
      << verified.out << verified.err;
}

// The whole folder, by content, but for the lock that says who came last.
std::map<std::string, std::string> all_files(const fs::path& run) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::recursive_directory_iterator(run))
    if (entry.is_regular_file() && entry.path().extension() != ".lock")
      hashes[entry.path().lexically_relative(run).string()] = sha256_file(entry.path());
  return hashes;
}

// A record that was taken out: the run would be another one, and what is there stays whole.
TEST(Run, ThatIsRefusedChangesNothingOfTheFinishedOne) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto before = all_files(folder.path / "run");
  const auto fewer = folder.write("fewer.jsonl", samples().substr(samples().find('\n') + 1));
  for (const auto& change :
       {"data.sources.0.path=" + fewer, std::string("train.optimizer.learning_rate=0.002"),
        "train.checkpoint.resume_inexact=true data.sources.0.path=" + fewer}) {
    const auto refused = retort("run '" + file + "' " + change);
    EXPECT_EQ(refused.exit, 2) << change;
    EXPECT_NE(refused.err.find("name a new folder (run.folder)"), std::string::npos) << refused.err;
    EXPECT_EQ(all_files(folder.path / "run"), before) << change;
    EXPECT_EQ(retort("verify '" + (folder.path / "run").string() + "'").exit, 0) << change;
  }
  // Samples that cannot be learned from are refused as early.
  const auto broken = folder.write("broken.jsonl", "{\"prompt\": \"a\"\n");
  EXPECT_EQ(retort("run '" + file + "' data.sources.0.path=" + broken).exit, 2);
  EXPECT_EQ(all_files(folder.path / "run"), before);
}

// One export that cannot be written costs itself alone.
TEST(Run, AnExportThatFailsIsInTheReport) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  ASSERT_EQ(retort("run '" + file + "' 'export.gguf=[]'").exit, 0);
  const auto in_the_way = folder.path / "run/export/model-Q8_0.gguf";
  fs::create_directories(in_the_way);
  const auto failed = retort("run '" + file + "'");
  EXPECT_EQ(failed.exit, 3) << failed.err;
  EXPECT_NE(failed.err.find("failed: "), std::string::npos) << failed.err;
  EXPECT_NE(failed.out.find("\nexport/adapter "), std::string::npos) << failed.out;
  const auto page = read_text(folder.path / "run/report.html");
  EXPECT_NE(page.find("FAILED: export/model-Q8_0.gguf: "), std::string::npos);
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);

  fs::remove(in_the_way);
  EXPECT_EQ(retort("run '" + file + "'").exit, 0);
  EXPECT_EQ(read_text(folder.path / "run/report.html").find("FAILED: "), std::string::npos);
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);
}

TEST(Run, StoppedInAnyPhaseContinuesToTheSameBytes) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto whole = results_of(folder.path / "run");
  fs::remove_all(folder.path / "run");

  int stops = 0;
  const auto program = fmt::format("{}/retort", binary_dir());
  for (int milliseconds : {400, 900, 700, 600, 500, 800, 1200}) {
    const pid_t child = fork();
    if (child == 0) {
      if (chdir(source_dir()) != 0 || !freopen("/dev/null", "w", stderr) ||
          !freopen("/dev/null", "w", stdout))
        _exit(99);
      execl(program.c_str(), "retort", "run", file.c_str(), nullptr);
      _exit(99);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    kill(child, stops % 2 == 0 ? SIGTERM : SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;  // done before the signal
    if (WIFEXITED(status)) { EXPECT_EQ(WEXITSTATUS(status), 75); }
    ++stops;
  }
  EXPECT_GT(stops, 0);
  const auto last = retort("run '" + file + "'");
  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_EQ(results_of(folder.path / "run"), whole);
}

TEST(Run, AProfileIsATableAndATraceOfTheRun) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  const auto run = retort("run --profile '" + file + "'");
  ASSERT_EQ(run.exit, 0) << run.err;
  for (const auto* part : {"linear (forward)", "linear (backward)", "attend (backward)",
                           "head and loss (forward)", "optimizer (step)", "of the measured peak",
                           "record    ledger ", "hashes of files ", "hashes of batches "})
    EXPECT_NE(run.out.find(part), std::string::npos) << part << "\n" << run.out;
  std::map<std::string, int> events;
  const auto trace = read_json(folder.path / "run/profile.json");
  for (const auto& event : trace.at("traceEvents")) ++events[event.at("name")];
  EXPECT_EQ(events["optimizer"], 3);  // one a step
  EXPECT_EQ(events["train"], 1);      // the stages hold the rest
  EXPECT_GT(events["norm"], 3 * 60);  // two a layer forward, two backward
  EXPECT_EQ(retort("verify '" + (folder.path / "run").string() + "'").exit, 0);
  const auto again = retort("run --profile '" + file + "'");
  EXPECT_EQ(again.exit, 0);
  EXPECT_NE(again.err.find("nothing to measure"), std::string::npos) << again.err;
}

TEST(Run, ABudgetChoosesAndIsPartOfTheRun) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  const auto little = retort("run '" + file + "' train.memory=100MiB");
  EXPECT_EQ(little.exit, 2) << little.err;
  EXPECT_NE(
      little.err.find("train.memory: 100MiB is too little: the least that this recipe runs in is about"),
      std::string::npos)
      << little.err;
  EXPECT_FALSE(fs::exists(folder.path / "run"));
  EXPECT_EQ(retort("check '" + file + "' train.memory=plenty").exit, 2);

  const auto first = retort("train '" + file + "' train.memory=2GiB train.steps=1");
  ASSERT_EQ(first.exit, 0) << first.err;
  EXPECT_NE(first.err.find("train.batch.pass_tokens 2048, 2 threads, nothing recomputed"), std::string::npos)
      << first.err;
  EXPECT_EQ(retort("train '" + file + "' train.memory=2GiB train.steps=1").exit, 0);
  const auto other = retort(
      "train '" + file + "' train.memory=3GiB train.steps=2");  // of the same choice, yet written otherwise
  EXPECT_EQ(other.exit, 2);
  EXPECT_NE(other.err.find("train.memory: 2GiB then, 3GiB now"), std::string::npos) << other.err;
}

TEST(Run, IsRefusedWhereMemoryIsShortAndLeavesNothing) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto run = retort("run '" + folder.write("r.yaml", recipe(folder)) +
                          "' eval.pass_tokens=1048576 eval.threads=4096");
  EXPECT_EQ(run.exit, 3) << run.err;
  EXPECT_NE(run.err.find("this run needs about"), std::string::npos) << run.err;
  EXPECT_FALSE(fs::exists(folder.path / "run"));
}

TEST(Run, RefusesBadInputAndWritesNothing) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto refused = [&](const std::string& more) {
    const auto result = retort("run '" + folder.write("r.yaml", recipe(folder)) + "' " + more);
    EXPECT_EQ(result.exit, 2) << result.err;
    EXPECT_FALSE(fs::exists(folder.path / "run"));
    return result.err;
  };
  EXPECT_NE(refused("train.stepz=3").find("train.stepz: unknown key; did you mean 'steps'?"),
            std::string::npos);
  EXPECT_NE(refused("model.path=" + folder.write("half.gguf", "GGUF")).find("half.gguf"), std::string::npos);
  EXPECT_NE(refused("data.sources.0.path=" + folder.write("broken.jsonl", "{\"prompt\": \"a\"\n"))
                .find("broken.jsonl:1"),
            std::string::npos);
  EXPECT_NE(refused("'adapter.targets=[q_prj]'").find("did you mean 'q_proj'?"), std::string::npos);
}

}  // namespace
}  // namespace retort
