// What is said of the data before it is learned, and of the scores by where the samples came from.
#include "cli/run_program.h"
#include "export/tiny_models.h"  // tests/export

namespace retort {
namespace {

namespace fs = std::filesystem;

struct TwoSources {
  Folder folder;
  std::string file;

  TwoSources() {
    tiny_folder(folder.path / "llama", "llama", tiny_tokenizer(96));
    std::string ward, court;
    for (int i = 0; i < 12; ++i)
      ward += fmt::format("{{\"prompt\":\"note {} of the ward, room {}\",\"completion\":\"stable {}\"}}\n", i,
                          i * 7, i);
    for (const char* end : {"", "."})
      ward += fmt::format(
          "{{\"prompt\":\"one two three four five six seven eight nine ten eleven "
          "twelve\",\"completion\":\"yes it is "
          "so and so{}\"}}\n",
          end);
    for (int i = 0; i < 10; ++i)
      court += fmt::format("{{\"prompt\":\"claim {} of mail{}@example.org\",\"completion\":\"no {}\"}}\n", i,
                           i, i * 3);
    file = folder.write(
        "r.yaml", fmt::format("model: {{path: {}, compute: f32}}\n"
                              "data: {{sources: [{{path: {}}}, {{path: {}}}], template: plain, loss: all, "
                              "held_out: {{count: 6}}}}\n"
                              "adapter: {{rank: 2, targets: [q_proj]}}\n"
                              "train: {{steps: 2, threads: 1, batch: {{samples: 4}}}}\n"
                              "eval: {{tasks: [{{kind: perplexity}}]}}\n"
                              "export: {{merged: none, gguf: []}}\nrun: {{folder: {}}}\n",
                              (folder.path / "llama").string(), folder.write("ward.jsonl", ward),
                              folder.write("court.jsonl", court), (folder.path / "run").string()));
  }
};

size_t lines_with(const std::string& text, const std::string& what) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++count;
  return count;
}

TEST(DataReport, CheckCountsWhatIsNotMeantToBeLearned) {
  const TwoSources made;
  const auto told = retort("check --no-step " + made.file);
  ASSERT_EQ(told.exit, 0) << told.err;
  EXPECT_NE(told.out.find("\nnear-duplicates: 1 record is nearly the same as an earlier one"),
            std::string::npos)
      << told.out;
  EXPECT_NE(told.out.find("ward.jsonl:14 ~ "), std::string::npos) << told.out;
  EXPECT_NE(told.out.find("\npersonal data in 10 records: an e-mail address in 10 ("), std::string::npos)
      << told.out;
  EXPECT_NE(told.out.find(", of 24 records\n"), std::string::npos) << told.out;
  const auto less = retort("check --no-step " + made.file +
                           " data.near_duplicates.remove=true data.personal_data=leave_out");
  ASSERT_EQ(less.exit, 0) << less.err;
  EXPECT_NE(less.out.find("samples: 7 to train on, 6 held out"), std::string::npos) << less.out;
}

TEST(DataReport, SamplesListsEveryRecordAndScoresAreToldBySource) {
  const TwoSources made;
  const auto run = retort("run " + made.file);
  ASSERT_EQ(run.exit, 0) << run.err;
  const auto table = run.out.find("\nHeld out, by source\n");
  ASSERT_NE(table, std::string::npos) << run.out;
  EXPECT_NE(run.out.find("ward.jsonl ", table), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("court.jsonl ", table), std::string::npos) << run.out;

  const auto listed = retort("samples --csv " + (made.folder.path / "run").string());
  ASSERT_EQ(listed.exit, 0) << listed.err;
  EXPECT_TRUE(listed.out.starts_with("place,source,side,group,uses_in_an_epoch\n")) << listed.out;
  EXPECT_EQ(lines_with(listed.out, ",train,"), 18u) << listed.out;
  EXPECT_EQ(lines_with(listed.out, ",held_out,"), 6u) << listed.out;
  EXPECT_EQ(lines_with(listed.out, "court.jsonl:"), 10u);
  const auto missing = retort("samples " + (made.folder.path / "nothing").string());
  EXPECT_EQ(missing.exit, 2);
  EXPECT_NE(missing.err.find("cannot be opened"), std::string::npos) << missing.err;
}

}  // namespace
}  // namespace retort
