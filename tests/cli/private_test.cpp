// A private recipe: no text of a sample in any file or line, on either side of the split.
#include "base/json.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";
constexpr std::string_view kCanary = "QUETZAL-5f1c9b";

bool model_is_there() { return fs::exists(fs::path(source_dir()) / kModel); }

// Answers that repeat are classes, and class names are texts.
std::string samples(const char* what, int count) {
  std::string lines;
  for (int i = 0; i < count; ++i)
    lines += fmt::format("{{\"prompt\": \"{} {} {}?\", \"completion\": \"{} {}\"}}\n", kCanary, what, i,
                         kCanary, i % 2 ? "yes" : "no");
  return lines;
}

std::string recipe(const Folder& folder) {
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "data: {{sources: [{{path: {}, use: train}}, {{path: {}, use: held_out}}]}}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
      "train: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
      "eval: {{tasks: [{{kind: completion, max_tokens: 4}}, {{kind: perplexity}}]}}\n"
      "export: {{merged: none, gguf: [Q8_0], compare_samples: 2}}\n"
      "run: {{folder: {}}}\n",
      kModel, folder.write("train.jsonl", samples("learned", 8)),
      folder.write("held_out.jsonl", samples("asked", 8)), (folder.path / "run").string());
}

std::vector<std::string> files_with_canary(const fs::path& run) {
  std::vector<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(run))
    if (entry.is_regular_file() && read_text(entry.path()).find(kCanary) != std::string::npos)
      found.push_back(entry.path().lexically_relative(run).string());
  std::sort(found.begin(), found.end());
  return found;
}

TEST(Private, NoTextOfASampleIsInAnyFileOrLine) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", "private: true\n" + recipe(folder));
  const auto check = retort("check --no-step '" + file + "'"), run = retort("run '" + file + "'"),
             eval = retort("eval '" + file + "'");
  for (const auto& result : {check, run, eval}) {
    EXPECT_EQ(result.exit, 0) << result.err;
    EXPECT_EQ((result.out + result.err).find(kCanary), std::string::npos) << result.out;
  }
  EXPECT_EQ(files_with_canary(folder.path / "run"), std::vector<std::string>{});
  EXPECT_NE(run.out.find("completion: 2 classes"), std::string::npos) << run.out;
  const auto tuned = read_json(folder.path / "run/eval/tuned.json");
  EXPECT_EQ(tuned[0]["samples"].size(), 8u);  // scores stay, one a sample
  EXPECT_EQ(tuned[0]["samples"][0]["expected"], "");
  EXPECT_EQ(tuned[0]["classes"][1]["name"], "class 2");
}

// What the test above would find: without `private`, and where texts are asked for.
TEST(Private, TextsAreThereWhereTheyAreAskedFor) {
  if (!model_is_there()) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", recipe(folder));
  ASSERT_EQ(retort("run '" + file + "'").exit, 0);
  const auto open = files_with_canary(folder.path / "run");
  EXPECT_EQ(open, (std::vector<std::string>{"eval/Q8_0.json", "eval/base.json", "eval/tuned.json",
                                            "report.html", "stages.json"}));
  // Its files hold texts: a private run would only seem private there.
  const auto refused = retort("run '" + file + "' private=true");
  EXPECT_EQ(refused.exit, 2);
  EXPECT_NE(refused.err.find("was not private so far, and its files hold samples' texts; name a new folder"),
            std::string::npos)
      << refused.err;

  const auto other = " private=true run.folder=" + (folder.path / "two").string();
  ASSERT_EQ(retort("run '" + file + "'" + other + " report.samples=2").exit, 0);
  EXPECT_EQ(files_with_canary(folder.path / "two"),
            (std::vector<std::string>{"eval/Q8_0.json", "eval/base.json", "eval/tuned.json", "report.html"}));
  const auto page = read_text(folder.path / "two/report.html");
  size_t shown = 0;
  for (auto at = page.find(" asked "); at != std::string::npos; at = page.find(" asked ", at + 1)) ++shown;
  EXPECT_EQ(shown, 2u);
  const auto fewer = retort("run '" + file + "'" + other);
  EXPECT_EQ(fewer.exit, 2);
  EXPECT_NE(fewer.err.find("report.samples was 2 so far"), std::string::npos) << fewer.err;
}

TEST(Private, CompletionsThatAreOnlyWrittenAreRefused) {
  Folder folder;
  const auto file = folder.write("r.yaml",
                                 "private: true\nmodel: {path: m.gguf}\ndata: {sources: [{path: a.jsonl}]}\n"
                                 "eval: {tasks: [{kind: code, path: p.jsonl}]}\n");
  const auto result = retort("check '" + file + "'");
  EXPECT_EQ(result.exit, 2);
  EXPECT_NE(result.err.find("eval.tasks[0].execute: false only writes the completions"), std::string::npos)
      << result.err;
}

}  // namespace
}  // namespace retort
