// `retort verify RUN --replay N`, from outside: steps of a small run computed again.
#include <cmath>
#include <functional>
#include <map>

#include "base/hash.h"
#include "base/json.h"
#include "report/manifest.h"
#include "run/replay_record.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

// Six steps, checkpoints after 2, 4 and 6 of which the last two stay; held-out losses at 0, 3 and 6.
std::string recipe(const fs::path& folder) {
  std::string lines;
  for (int i = 0; i < 24; ++i)
    lines += fmt::format("{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"{}\"}}\n", i + 1,
                         4 * (i + 1));
  std::ofstream(folder / "samples.jsonl") << lines;
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj], dropout: 0.1}}\n"
      "train:\n"
      "  steps: 6\n"
      "  threads: 2\n"
      "  batch: {{samples: 4}}\n"
      "  evaluate: {{every: 3}}\n"
      "  checkpoint: {{every: 2, keep_last: 2}}\n"
      "eval: {{tasks: [{{kind: perplexity}}]}}\n"
      "export: {{merged: none, gguf: [], compare_samples: 2}}\n"
      "run: {{folder: {}}}\n",
      kModel, (folder / "samples.jsonl").string(), (folder / "run").string());
}

std::map<std::string, std::string> files_of(const fs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    files[entry.path().lexically_relative(folder).string()] =
        entry.is_regular_file() ? sha256_file(entry.path()) : "folder";
  return files;
}

// One run for all tests of this file.
struct Reference {
  const fs::path folder = fs::temp_directory_path() / fmt::format("retort_replay_{}", getpid());
  const fs::path run = folder / "run";
  Result result;
  Reference() {
    fs::create_directories(folder);
    std::ofstream(folder / "r.yaml") << recipe(folder);
    result = retort("run '" + (folder / "r.yaml").string() + "'");
  }
  ~Reference() { fs::remove_all(folder); }
};
const Reference& reference() {
  static const Reference the_reference;
  return the_reference;
}

// The run, with its record written anew as somebody would who may write the folder: its chain is whole.
class Forged {
 public:
  explicit Forged(const std::string& name) : run(reference().folder / name) {
    fs::copy(reference().run, run, fs::copy_options::recursive);
  }
  ~Forged() { fs::remove_all(run); }

  void close(const std::function<void(const std::string& event, OrderedJson& facts)>& change = {}) const {
    const auto entries = read_ledger(run);
    const auto was = read_manifest(run);
    fs::remove(run / kLedgerFile);
    Ledger ledger(run);
    for (const auto& entry : entries) {
      if (entry.event == "closed") continue;
      auto facts = entry.facts;
      if (change) change(entry.event, facts);
      ledger.add(entry.event, std::move(facts));
    }
    auto manifest = make_manifest(run, {}, was.recipe_sha256);
    manifest.read = was.read;
    close_manifest(std::move(manifest), run, ledger, OrderedJson::object());
  }

  const fs::path run;
};

std::string verify(const fs::path& run, const std::string& options) {
  return "verify '" + run.string() + "' " + options;
}

class ReplayOfARun : public testing::Test {
 protected:
  void SetUp() override {
    if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
    ASSERT_EQ(reference().result.exit, 0) << reference().result.err;
  }
};

TEST_F(ReplayOfARun, EveryStepComesOutTheSameAndNothingIsWritten) {
  const auto before = files_of(reference().run);
  const auto scratch = reference().folder / "scratch";
  fs::create_directory(scratch);
  const auto result =
      retort(verify(reference().run, "--replay 6 --seed 1"), "TMPDIR='" + scratch.string() + "'");
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.out.find("replay: 6 of 6 steps, chosen with --seed 1: 1 to 4, 5 to 6\n"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("replay: begins behind step 0 (the base) and the kept checkpoint of step 4\n"),
            std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("replay: 6 steps computed, every bit equal: "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("replay: equal after steps 2, 4, 6: the weights"), std::string::npos)
      << result.out;
  EXPECT_NE(result.out.find("replay: 2 held-out losses on the way are equal\n"), std::string::npos)
      << result.out;  // before step 1 and after step 3
  EXPECT_EQ(files_of(reference().run), before);
  EXPECT_TRUE(fs::is_empty(scratch));
}

TEST_F(ReplayOfARun, FewStepsAreTheFirstBehindAKeptCheckpoint) {
  const auto result = retort(verify(reference().run, "--replay 1 --seed 2"));
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.out.find("replay: 1 of 6 steps, chosen with --seed 2: "), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("replay: 1 step computed"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("weights were not compared"), std::string::npos) << result.out;
  EXPECT_EQ(retort(verify(reference().run, "--replay 0")).exit, 2);
  EXPECT_EQ(retort(verify(reference().run, "--seed 3")).exit, 2);
}

// The smallest change of a double, in a record that is whole otherwise.
TEST_F(ReplayOfARun, ALossThatWasWrittenAnewIsNamedByItsStep) {
  const Forged forged("loss");
  std::string text;
  for (const auto& row : read_metrics(forged.run / "metrics.jsonl")) {
    OrderedJson line = {{"step", row.step}};
    for (const auto& [name, value] : row.scalars)
      line[name] = row.step == 3 && name == "loss" ? std::nextafter(value, 0.0) : value;
    text += line.dump() + "\n";
  }
  std::ofstream(forged.run / "metrics.jsonl", std::ios::binary) << text;
  forged.close();
  ASSERT_EQ(retort(verify(forged.run, "")).exit, 0);  // which the files alone do not show
  const auto result = retort(verify(forged.run, "--replay 6 --seed 1"));
  EXPECT_EQ(result.exit, 2);
  EXPECT_NE(result.err.find("replay: step 3 is the first that differs, 3 computed: loss is "),
            std::string::npos)
      << result.err;
}

TEST_F(ReplayOfARun, WeightsAndSamplesThatWereWrittenAnewAreNamedByTheirStep) {
  {
    const Forged forged("weights");
    forged.close([](const std::string& event, OrderedJson& facts) {
      if (event == "checkpoint" && facts["step"] == 2) facts["weights_sha256"] = std::string(64, 'a');
    });
    const auto result = retort(verify(forged.run, "--replay 6 --seed 1"));
    EXPECT_EQ(result.exit, 2);
    EXPECT_NE(result.err.find("replay: step 2 is the first that differs"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("the hash of the weights after it is "), std::string::npos) << result.err;
  }
  {
    const Forged forged("samples");
    auto text = read_text(forged.run / "batches.tsv");
    const auto step = text.find("\n5\t");
    ASSERT_NE(step, std::string::npos);
    const auto last = text.find('\n', step + 1) - 1;
    text[last] = text[last] == '1' ? '2' : '1';
    std::ofstream(forged.run / "batches.tsv", std::ios::binary) << text;
    forged.close();
    const auto result = retort(verify(forged.run, "--replay 6 --seed 1"));
    EXPECT_EQ(result.exit, 2);
    EXPECT_NE(result.err.find("replay: step 5 is the first that differs, 6 computed: its epoch and samples"),
              std::string::npos)
        << result.err;
  }
}

// Nothing is computed from files that are not the run's.
TEST_F(ReplayOfARun, ARunWhoseFilesChangedIsNotReplayed) {
  const Forged forged("changed");
  std::ofstream(forged.run / "metrics.jsonl", std::ios::app) << "\n";
  const auto result = retort(verify(forged.run, "--replay 2"));
  EXPECT_EQ(result.exit, 2);
  EXPECT_NE(result.out.find("metrics.jsonl: modified"), std::string::npos) << result.out;
  EXPECT_EQ(result.out.find("replay:"), std::string::npos) << result.out;
}

TEST(DrawSteps, TakesTheFirstStepsOfEachStretchAndEveryStepOnce) {
  const std::vector<ReplayStretch> stretches = {
      {0, 40, 0}, {40, 10, 0}, {70, 30, 0}};  // 50 to 69: out of reach
  std::map<int64_t, int> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    auto drawn = stretches;
    draw_steps(drawn, 100, 8, seed);
    int64_t sum = 0;
    for (const auto& stretch : drawn) {
      sum += stretch.chosen;
      EXPECT_LE(stretch.chosen, stretch.length);
      seen[stretch.from] += static_cast<int>(stretch.chosen);
    }
    EXPECT_EQ(sum, 8);
    auto again = stretches;
    draw_steps(again, 100, 8, seed);
    for (size_t i = 0; i < drawn.size(); ++i) EXPECT_EQ(again[i].chosen, drawn[i].chosen);
  }
  // 400 steps in the proportion of 40 : 10 : 30, give or take four times the deviation of such a draw.
  EXPECT_NEAR(seen[0], 200, 40);
  EXPECT_NEAR(seen[40], 50, 27);
  EXPECT_NEAR(seen[70], 150, 39);
  auto all = stretches;
  draw_steps(all, 100, 1000, 7);
  for (const auto& stretch : all) EXPECT_EQ(stretch.chosen, stretch.length);
}

}  // namespace
}  // namespace retort
