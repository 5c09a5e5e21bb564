// Secrets that are planted, learned, measured and refused: whole runs from outside.
#include "data/canaries.h"

#include "base/hash.h"
#include "base/json.h"
#include "report/ledger.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

std::string notes(int first) {
  std::string lines;
  for (int i = first; i < first + 8; ++i)
    lines += fmt::format("{{\"text\": \"Note {} says that Ada rested for {} days.\"}}\n", i, 3 * i % 17 + 2);
  return lines;
}

// `more`: of the section data.
std::string recipe(const Folder& folder, const std::string& more, const std::string& rest) {
  return fmt::format(
      "private: true\n"
      "model: {{path: {}, compute: f32}}\n"
      "data:\n"
      "  sources: [{{path: {}, use: train}}, {{path: {}, use: held_out}}]\n"
      "{}"
      "export: {{adapter: false, merged: none, gguf: []}}\n"
      "run: {{folder: {}}}\n"
      "{}",
      kModel, folder.write("learned.jsonl", notes(0)), folder.write("held_out.jsonl", notes(8)), more,
      (folder.path / "run").string(), rest);
}

TEST(Canary, ThatIsLearnedIsExposedAndFailsItsGate) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write(
      "r.yaml",
      recipe(folder, "  canaries: {count: 1, times: 50, twins: 31}\n",
             "adapter: {kind: lora, rank: 8}\n"
             "train: {epochs: 1, threads: 2, batch: {samples: 4}, optimizer: {learning_rate: 0.002}}\n"
             "eval: {tasks: [{kind: exposure}, {kind: membership}]}\n"
             "gate: [{metric: exposure.max_exposure, model: tuned, at_most: 3}]\n"));
  const auto run = retort("run '" + file + "'");
  EXPECT_EQ(run.exit, 1) << run.err;  // a gate failed
  EXPECT_NE(run.out.find("gate: exposure.max_exposure of tuned is 5; at most 3: failed"), std::string::npos)
      << run.out;
  EXPECT_NE(run.out.find("What is given away of the training samples"), std::string::npos) << run.out;
  const auto at = folder.path / "run";
  const auto tuned = read_json(at / "eval/tuned.json");
  EXPECT_EQ(tuned[0]["samples"][0]["id"], "data.canaries:1");
  EXPECT_EQ(tuned[0]["samples"][0]["score"], 5.0);  // log2 of 32 texts, before all of its 31 twins
  EXPECT_EQ(tuned[1]["samples"].size(), 16u);       // eight to learn from, eight held out

  // It is marked wherever records are named, and written nowhere.
  const auto listed = retort("samples '" + file + "' --csv");
  EXPECT_NE(listed.out.find("\ndata.canaries:1,canary,train,,50\n"), std::string::npos) << listed.out;
  const auto traced = retort("trace data.canaries:1 '" + at.string() + "'");
  EXPECT_NE(traced.out.find("(data.canaries:1): learned, 50 uses in an epoch"), std::string::npos)
      << traced.out;
  const auto of_note =
      retort("trace '" + (folder.path / "learned.jsonl").string() + ":2' '" + at.string() + "'");
  EXPECT_NE(of_note.out.find("its loss was measured (membership): eval/base.json, eval/tuned.json"),
            std::string::npos)
      << of_note.out;
  bool in_ledger = false;
  for (const auto& entry : read_ledger(at)) in_ledger = in_ledger || entry.event == "canaries";
  EXPECT_TRUE(in_ledger);
  CanarySpec spec;
  spec.count = 1, spec.twins = 31;
  const auto text = make_canaries(spec).planted[0].text;
  const auto digits = text.substr(text.rfind(' ') + 1);
  for (const auto* said : {&run, &listed, &traced})
    EXPECT_EQ((said->out + said->err).find(digits), std::string::npos) << digits;
  for (const auto& entry : fs::recursive_directory_iterator(at))
    if (entry.is_regular_file()) {
      EXPECT_EQ(read_text(entry.path()).find(digits), std::string::npos) << entry.path();
    }
  EXPECT_EQ(retort("verify '" + at.string() + "'").exit, 0);
}

TEST(Canary, NoneChangesNoByteOfARun) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  constexpr auto kRest =
      "adapter: {kind: lora, rank: 2, targets: [q_proj]}\n"
      "train: {steps: 2, threads: 2, batch: {samples: 4}}\n"
      "eval: {tasks: [{kind: perplexity}]}\n";
  const auto run = folder.path / "run";
  std::vector<std::vector<std::string>> hashes;
  for (const auto* canaries : {"", "  canaries: {count: 0, times: 1}\n"}) {
    const auto done = retort("run '" + folder.write("r.yaml", recipe(folder, canaries, kRest)) + "'");
    ASSERT_EQ(done.exit, 0) << done.err;
    hashes.emplace_back();
    for (const auto* name : {"recipe.yaml", "tokens.h5", "records.tsv", "batches.tsv", "metrics.jsonl",
                             "trained.safetensors", "eval/base.json", "eval/tuned.json"})
      hashes.back().push_back(std::string(name) + " " + sha256_file(run / name));
    fs::remove_all(run);
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

TEST(Canary, RecipesThatWouldMeasureNothingAreRefused) {
  Folder folder;
  const auto error_of = [&](const std::string& canaries, const std::string& rest) {
    return retort("check '" + folder.write("r.yaml", recipe(folder, canaries, rest)) + "'").err;
  };
  EXPECT_NE(
      error_of("  canaries: {count: 8}\n", "eval: {tasks: [{kind: perplexity}]}\n")
          .find("data.canaries.count: nothing measures the canaries; add {kind: exposure} to eval.tasks"),
      std::string::npos);
  EXPECT_NE(error_of("", "eval: {tasks: [{kind: exposure}]}\n")
                .find("eval.tasks[0].kind: exposure measures canaries, and none is planted"),
            std::string::npos);
}

}  // namespace
}  // namespace retort
