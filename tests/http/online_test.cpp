// The two programs from outside: retort-online asks the server, retort trains from what it kept.
#include "cli/run_program.h"  // tests/cli
#include "http/loopback_server.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";
constexpr auto kToken = "sk-this-is-secret";

class Online : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(fs::path(source_dir()) / kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
  }
  std::string recipe(const LoopbackServer& server, const std::string& more) {
    std::string lines;
    for (int i = 0; i < 16; ++i)
      lines += fmt::format(
          "{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"They have {} legs.\"}}\n",
          i + 1, 4 * (i + 1));
    return folder.write(
        "r.yaml",
        fmt::format("model: {{path: {}, compute: f32}}\nprune: {{layers: 2}}\n"
                    "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\nadapter: {{kind: "
                    "full}}\ntrain: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
                    "export: {{merged: none, gguf: [], adapter: false}}\nrun: {{folder: {}}}\n"
                    "teacher: {{url: '{}', server: {{token_file: {}, first_wait: 0.01, tries: 1}}, {}\n",
                    kModel, folder.write("samples.jsonl", lines), (folder.path / "run").string(),
                    server.url(), folder.write("token", kToken), more));
  }
  void expect_no_token(const Result& result) {
    EXPECT_EQ(result.out.find(kToken), std::string::npos);
    EXPECT_EQ(result.err.find(kToken), std::string::npos);
    for (const auto& entry : fs::recursive_directory_iterator(folder.path)) {
      if (!entry.is_regular_file() || entry.path().filename() == "token") continue;
      EXPECT_EQ(read_text(entry.path()).find(kToken), std::string::npos) << entry.path();
    }
  }
  Folder folder;
};

const std::string kScore = "keep: {draws: 0, head: 4, part_positions: 64}}\ndistill: {loss: forward_kl}\n";

TEST_F(Online, ACacheThatAServerFillsIsTrainedFromWithoutANetwork) {
  std::string file;
  const auto cache = folder.path / "run/teacher";
  {
    const LoopbackServer server(
        Json{{"vocabulary", 49152},
             {"token", kToken},
             {"faults", {"none", "none", "none", "none", "none", "none", "none", "none", "500"}}});
    file = recipe(server, kScore);
    const auto plain = retort("teach '" + file + "'");
    EXPECT_EQ(plain.exit, 2);
    EXPECT_EQ(plain.err, "retort: teacher.url: " + server.url() +
                             " has to be asked, and this program has no network code; `retort-online` takes "
                             "the same commands and has it: retort-online teach RECIPE. What it "
                             "keeps is read without a network\n");
    EXPECT_EQ(server.requests().size(), 0u);
    const auto broken = run_program(
        "retort-online", "teach '" + file + "' teacher.server.concurrent=1 teacher.keep.part_positions=64");
    EXPECT_EQ(broken.exit, 3);
    EXPECT_NE(broken.err.find("answers 500: fault 500"), std::string::npos) << broken.err;
    const auto taught = run_program("retort-online", "teach '" + file + "'");
    ASSERT_EQ(taught.exit, 0) << taught.err;
    EXPECT_GE(server.requests().size(), 12u);
    EXPECT_EQ(server.requests().back().at("authorization"), fmt::format("Bearer {}", kToken));
    expect_no_token(broken);
    const auto again = run_program("retort-online", "teach '" + file + "'");
    EXPECT_NE(again.out.find("nothing was missing"), std::string::npos) << again.out;
  }
  const auto trained = retort("run '" + file + "'");  // the server is gone
  ASSERT_EQ(trained.exit, 0) << trained.err;
  EXPECT_NE(trained.err.find("the teacher is behind a server"), std::string::npos) << trained.err;
  expect_no_token(trained);
  for (const auto& path : {folder.path / "run/manifest.json", folder.path / "run/stages.json"})
    EXPECT_EQ(read_text(path).find((folder.path / "token").string() + "\""), std::string::npos) << path;
}

TEST_F(Online, AnswersBecomeASourceWithAChecker) {
  const auto answers = (folder.path / "answers.jsonl").string();
  std::string file;
  {
    const LoopbackServer server(Json{{"token", kToken}, {"faults", {"none", "none", "429", "none"}}});
    file = recipe(server, fmt::format("answers: {{file: {}, per_prompt: 2, temperature: 0.7}}}}\n", answers));
    const auto broken = run_program("retort-online", "teach '" + file + "'");
    EXPECT_EQ(broken.exit, 3) << broken.out;
    const auto taught = run_program("retort-online", "teach '" + file + "' teacher.server.tries=5");
    ASSERT_EQ(taught.exit, 0) << taught.err;
    EXPECT_NE(taught.out.find("answers.jsonl: 24 answers to 12 prompts, 24 ended by themselves"),
              std::string::npos)
        << taught.out;
    expect_no_token(taught);
  }
  EXPECT_NE(retort("teach '" + file + "'").out.find("nothing was missing"), std::string::npos);
  const auto student = folder.write(
      "s.yaml",
      fmt::format("model: {{path: {}}}\ndata:\n  sources:\n    - path: {}\n      reject: {{unless_match: '-> "
                  "\\d+ at 0.7$', if_match: '[13579] at', unless_finished: finish_reason}}\n",
                  kModel, answers));
  const auto checked = retort("check --no-step '" + student + "'");
  EXPECT_EQ(checked.exit, 0) << checked.err;
  EXPECT_NE(checked.out.find("of 24 records rejected: "), std::string::npos) << checked.out;  // the odd seeds
}

}  // namespace
}  // namespace retort
