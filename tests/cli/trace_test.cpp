// Where a record went, and how it goes: whole runs from outside.
#include <set>
#include <sstream>

#include "base/hash.h"
#include "report/ledger.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

std::string line(int i) {
  return fmt::format("{{\"note\": \"Note {} of Quetzal\", \"code\": \"E{}\", \"patient\": \"P{}\"}}\n", i, i,
                     i / 2);
}

std::string recipe(const Folder& folder) {
  std::string learned, held_out;
  for (int i = 0; i < 8; ++i) learned += line(i);
  for (int i = 8; i < 12; ++i) held_out += line(i);
  constexpr auto kRead = "kind: columns, prompt: '{note}', completion: '{code}', group: '{patient}'";
  return fmt::format(
      "private: true\n"
      "model: {{path: {}, compute: f32}}\n"
      "data:\n"
      "  sources: [{{path: {}, use: train, {}}}, {{path: {}, use: held_out, {}}}]\n"
      "  forget: {}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
      "train: {{epochs: 2, threads: 2, batch: {{samples: 4}}}}\n"
      "eval: {{tasks: [{{kind: perplexity}}]}}\n"
      "export: {{merged: none, gguf: [], compare_samples: 2}}\n"
      "run: {{folder: {}}}\n",
      kModel, folder.write("learned.jsonl", learned), kRead, folder.write("held_out.jsonl", held_out), kRead,
      (folder.path / "forgotten.txt").string(), (folder.path / "run").string());
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string one; std::getline(in, one);) lines.push_back(one);
  return lines;
}

TEST(Trace, SaysSideStepsAndWhatHoldsARecord) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  const auto done = retort("run '" + file + "'");
  ASSERT_EQ(done.exit, 0) << done.err;

  // A person brings the record; the run's own settings say how such a file is read.
  const auto brought = folder.write("brought.jsonl", line(3));
  const auto by_file = retort("trace '" + brought + "' '" + run + "'");
  ASSERT_EQ(by_file.exit, 0) << by_file.err;
  EXPECT_NE(by_file.out.find("learned.jsonl:4): learned, 1 uses in an epoch: in steps "), std::string::npos)
      << by_file.out;
  EXPECT_NE(by_file.out.find("epochs 1, 2"), std::string::npos) << by_file.out;
  EXPECT_NE(by_file.out.find("weights that were trained on it: checkpoints/step-00000004, export/adapter, "
                             "trained.safetensors"),
            std::string::npos)
      << by_file.out;
  EXPECT_NE(by_file.out.find("as token ids: tokens.h5"), std::string::npos) << by_file.out;
  EXPECT_EQ(by_file.out.find("Quetzal"), std::string::npos) << by_file.out;

  // The steps are those of batches.tsv: counted by hand, since sample 3 is the fourth record.
  std::string steps;
  for (const auto& one : lines_of(read_text(fs::path(run) / "batches.tsv"))) {
    std::istringstream fields(one);
    int step = 0, epoch = 0;
    fields >> step >> epoch;
    for (int sample = 0; fields >> sample;)
      if (sample == 3) steps += (steps.empty() ? "" : ", ") + std::to_string(step);
  }
  EXPECT_NE(by_file.out.find("in steps " + steps + " of 4"), std::string::npos) << steps << "\n"
                                                                                << by_file.out;

  const auto place = (folder.path / "held_out.jsonl").string() + ":1";
  const auto by_place = retort("trace '" + place + "' '" + run + "'");
  EXPECT_NE(by_place.out.find("held out: measured, never learned"), std::string::npos) << by_place.out;
  EXPECT_NE(by_place.out.find("scored on it: eval/base.json, eval/tuned.json"), std::string::npos)
      << by_place.out;
  const auto by_group = retort("trace --group P1 '" + run + "' --hashes");
  EXPECT_EQ(lines_of(by_group.out).size(), 2u) << by_group.out;
  const auto hash = lines_of(by_group.out)[0];
  EXPECT_NE(retort("trace " + hash + " '" + run + "'").out.find("learned.jsonl:3)"), std::string::npos);
  const auto unknown = folder.write("unknown.jsonl", line(77));
  EXPECT_NE(retort("trace '" + unknown + "' '" + run + "'").out.find("not among its 12 records"),
            std::string::npos);

  const auto refused = retort("trace nowhere '" + run + "'");
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("nowhere: there is no such file; expected a file of records"), std::string::npos)
      << refused.err;
  EXPECT_EQ(retort("trace " + hash + " '" + folder.path.string() + "'").exit, 2);  // no run
}

TEST(Trace, NamesARunThatWentOnWithTheResult) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto second = (folder.path / "second").string(),
             other = folder.write("other.jsonl", line(50) + line(51));
  const auto done = retort("run '" + file + "' run.folder=" + second + " adapter.from=" + run +
                           "/export/adapter data.sources.0.path=" + other);
  ASSERT_EQ(done.exit, 0) << done.err;
  const auto brought = folder.write("brought.jsonl", line(3));
  const auto traced = retort("trace '" + brought + "' '" + run + "' '" + second + "'");
  EXPECT_NE(traced.out.find(second + ": not among its 6 records"), std::string::npos) << traced.out;
  EXPECT_NE(traced.out.find(second + ": read " + run + "/export/adapter/adapter_model.safetensors, which " +
                            run + " wrote"),
            std::string::npos)
      << traced.out;
}

TEST(Forget, LeavesRecordsOutRemovesWhatWasMadeOfThemAndTrainsAgain) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto weights = sha256_file(fs::path(run) / "trained.safetensors");
  const auto list = folder.write("gone.txt", retort("trace --group P1 '" + run + "' --hashes").out);

  const auto said = retort("forget '" + list + "' '" + file + "'");
  ASSERT_EQ(said.exit, 0) << said.err;
  EXPECT_NE(said.out.find("2 of 2 hashes are new"), std::string::npos) << said.out;
  EXPECT_NE(said.out.find("learned 2 of them and was measured on 0"), std::string::npos) << said.out;
  EXPECT_EQ(read_ledger(run).rbegin()[1].event, "forget");
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);
  EXPECT_TRUE(fs::exists(fs::path(run) / "trained.safetensors"));
  // The run that is there is of other samples now.
  const auto refused = retort("run '" + file + "'");
  EXPECT_EQ(refused.exit, 2) << refused.err;

  const auto removed = retort("forget '" + list + "' '" + file + "' --remove");
  ASSERT_EQ(removed.exit, 0) << removed.err;
  EXPECT_NE(removed.out.find("0 of 2 hashes are new"), std::string::npos) << removed.out;
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(run)) left.insert(entry.path().filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"ledger.jsonl", "manifest.json", "metrics.jsonl", "recipe.yaml",
                                         "run.lock", "speed.jsonl", "tensorboard", "train.lock"}));
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);
  bool named = false;
  for (const auto& entry : read_ledger(run))
    if (entry.event == "deleted")
      for (const auto& one : entry.facts["files"])
        named =
            named || (one.is_object() && one["path"] == "trained.safetensors" && one["sha256"] == weights);
  EXPECT_TRUE(named);

  const auto again = retort("run '" + file + "'");
  ASSERT_EQ(again.exit, 0) << again.err;
  EXPECT_NE(sha256_file(fs::path(run) / "trained.safetensors"), weights);
  EXPECT_NE(retort("trace --group P1 '" + run + "'").out.find("read, and used on neither side"),
            std::string::npos);
  EXPECT_EQ(retort("verify '" + run + "'").exit, 0);
  // The same recipe over sources that never had them gives the same weights.
  std::string fewer;
  for (int i = 0; i < 8; ++i)
    if (i / 2 != 1) fewer += line(i);
  const auto without =
      retort("run '" + file + "' data.forget= run.folder=" + (folder.path / "never").string() +
             " data.sources.0.path=" + folder.write("fewer.jsonl", fewer));
  ASSERT_EQ(without.exit, 0) << without.err;
  EXPECT_EQ(sha256_file(folder.path / "never/trained.safetensors"),
            sha256_file(fs::path(run) / "trained.safetensors"));
}

// A cache that was filled before holds the record: it must not stand for samples without it.
TEST(Forget, AStoreOfTokensThatHoldsTheRecordIsRefused) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder)), run = (folder.path / "run").string();
  const auto cached = "' data.cache=" + (folder.path / "tokens.h5").string();
  ASSERT_EQ(retort("run '" + file + cached).exit, 0);
  const auto list = folder.write("gone.txt", retort("trace --group P1 '" + run + "' --hashes").out);
  EXPECT_NE(retort("forget '" + list + "' '" + file + cached + " --remove").out.find("tokens.h5 holds"),
            std::string::npos);
  const auto refused = retort("run '" + file + cached);
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("tokens.h5"), std::string::npos) << refused.err;
}

TEST(Forget, RefusesWhatIsNoListAndARecipeWithoutOne) {
  Folder folder;
  const auto file = folder.write("r.yaml", "model: {path: m.gguf}\ndata: {sources: [{path: a.jsonl}]}\n");
  const auto list = folder.write("gone.txt", "# of June\nP1\n");
  const auto without = retort("forget '" + list + "' '" + file + "'");
  EXPECT_EQ(without.exit, 2);
  EXPECT_NE(without.err.find("data.forget: missing; name the file that keeps the hashes"), std::string::npos)
      << without.err;
  const auto wrong =
      retort("forget '" + list + "' '" + file + "' data.forget=" + (folder.path / "f.txt").string());
  EXPECT_EQ(wrong.exit, 2);
  EXPECT_NE(wrong.err.find("gone.txt:2: expected the hash of a record"), std::string::npos) << wrong.err;
  EXPECT_FALSE(fs::exists(folder.path / "f.txt"));
}

}  // namespace
}  // namespace retort
