// `retort prove RECIPE`, from outside.
#include "report/manifest.h"
#include "run_program.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

bool can_run() {
  return fs::exists(fs::path(source_dir()) / kModel) &&
         std::system("strace --seccomp-bpf -f -qq -o /dev/null true 2>/dev/null") == 0;
}

std::string samples(const char* what) {
  std::string lines;
  for (int i = 0; i < 8; ++i)
    lines += fmt::format(
        "{{\"prompt\": \"Note {} of a {} patient with quetzal fever\", \"completion\": \"Code E{} of the "
        "quetzal chapter\"}}\n",
        i, what, i % 2);
  return lines;
}

std::string recipe(const Folder& folder) {
  return fmt::format(
      "model: {{path: {}, compute: f32}}\n"
      "data: {{sources: [{{path: {}, use: train}}, {{path: {}, use: held_out}}]}}\n"
      "adapter: {{kind: lora, rank: 2, targets: [q_proj]}}\n"
      "train: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
      "eval: {{tasks: [{{kind: completion, max_tokens: 4}}]}}\n"
      "export: {{merged: none, gguf: [], compare_samples: 2}}\n",
      kModel, folder.write("train.jsonl", samples("learned")),
      folder.write("held_out.jsonl", samples("measured")));
}

TEST(Prove, APrivateRunLeavesNoTextAndOpensWhatItsManifestNames) {
  if (!can_run()) GTEST_SKIP() << "strace cannot watch here, or " << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto file = folder.write("r.yaml", "private: true\n" + recipe(folder));
  const auto run = folder.path / "run";
  const auto result = retort("prove '" + file + "' run.folder='" + run.string() + "'");
  EXPECT_EQ(result.exit, 0) << result.out << result.err;
  EXPECT_NE(result.out.find("\nall of it holds\n"), std::string::npos) << result.out;
  for (const auto* line :
       {"ok       no socket but those within the machine (AF_UNIX)\n",
        "ok       no other program was started but those that the recipe asks for: none\n",
        "ok       everything was written into the run's folder or a cache\n",
        "ok       nobody but the user can read the run\n", "ok       private: no text of a record is left: "})
    EXPECT_NE(result.out.find(line), std::string::npos) << line << result.out;
  EXPECT_NE(result.out.find(fmt::format("\nread     {}\n", kModel)), std::string::npos) << result.out;
  EXPECT_EQ(verify_manifest(run).size(), 0u);

  // A run that is there would have nothing left to do.
  const auto again = retort("prove '" + file + "' run.folder='" + run.string() + "'");
  expect_one_line(again, 2,
                  "retort: run.folder: " + run.string() +
                      ": is there already; a run is watched from its beginning: name a new folder");
}

// What the test above would find: the texts of a run that is not private.
TEST(Prove, NamesFilesThatHoldTexts) {
  if (!can_run()) GTEST_SKIP() << "strace cannot watch here, or " << kModel << " is absent: run tools/setup";
  Folder folder;
  const auto scratch = folder.path / "scratch";
  fs::create_directory(scratch);
  const auto file = folder.write("r.yaml", recipe(folder));
  const auto result = retort("prove '" + file + "'", "TMPDIR='" + scratch.string() + "'");
  EXPECT_EQ(result.exit, 0) << result.out << result.err;
  const auto line = result.out.find("ok       the recipe is not private: texts may be left: in ");
  ASSERT_NE(line, std::string::npos) << result.out;
  EXPECT_NE(result.out.find("/eval/base.json", line), std::string::npos) << result.out;
  EXPECT_TRUE(fs::is_empty(scratch));  // trace and run are gone

  const auto broken = retort("prove '" + file + "' train.steps=-1");
  EXPECT_EQ(broken.exit, 2);
}

}  // namespace
}  // namespace retort
