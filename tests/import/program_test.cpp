// The two programs from outside: retort-import reads a folder as DistillKit writes it, retort trains from
// what it kept.
#include "cli/run_program.h"  // tests/cli
#include "data/dataset.h"
#include "import/written_folder.h"  // tests/import
#include "models/model.h"
#include "models/own_templates.h"
#include "teacher/contexts.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

constexpr auto kModel = "checkpoints/smollm2-135m-instruct-q4_1.gguf";

class ImportProgram : public testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(fs::path(source_dir()) / kModel)) GTEST_SKIP() << kModel << " is absent: run tools/setup";
    std::string lines;
    for (int i = 0; i < 16; ++i)
      lines += fmt::format(
          "{{\"prompt\": \"How many legs have {} horses?\", \"completion\": \"They have {} legs.\"}}\n",
          i + 1, 4 * (i + 1));
    samples = folder.write("samples.jsonl", lines);
    fs::create_directories(kept());
    folder.write(
        "kept/compression_config.yaml",
        "d: 49153\nk: 2\nexact_k: 2\ndelta_encoding: false\nresidual_bins: []\n");  // one token more than
                                                                                    // there are, as
                                                                                    // DistillKit counts
  }
  fs::path kept() const { return folder.path / "kept"; }
  std::string recipe(const std::string& teacher) const {
    return folder.write(
        "r.yaml", fmt::format("model: {{path: {}, compute: f32}}\nprune: {{layers: 2}}\n"
                              "data: {{sources: [{{path: {}}}], held_out: {{count: 4}}}}\nadapter: {{kind: "
                              "full}}\ntrain: {{steps: 2, threads: 2, batch: {{samples: 4}}}}\n"
                              "export: {{merged: none, gguf: [], adapter: false}}\nrun: {{folder: "
                              "{}}}\nteacher: {{distillkit: {}, {}}}\ndistill: {{loss: forward_kl}}\n",
                              kModel, samples, (folder.path / "run").string(), kept().string(), teacher));
  }
  // The training samples and a pad token, as its teacher script stores them: the token that follows has
  // probability 0.6, token 17 0.3.
  void write_kept(size_t leave_out) {
    const auto loaded = load_model({.path = (fs::path(source_dir()) / kModel).string()});
    DataSpec spec;
    spec.sources.resize(1);
    spec.sources[0].path = samples;
    spec.held_out.count = 4;
    const auto dataset = build_dataset(spec, *loaded.tokenizer,
                                       choose_chat_template({}, own_templates(loaded), *loaded.tokenizer));
    std::vector<WrittenText> texts;
    for (size_t s = leave_out; s < dataset.train.size(); ++s) {
      const auto tokens = dataset.train[s].tokens;
      WrittenText text;
      text.tokens.assign(tokens.begin(), tokens.end());
      text.tokens.push_back(2);
      for (size_t p = 0; p + 1 < text.tokens.size(); ++p) {
        text.values.push_back(floats({std::log(0.6f), std::log(0.3f)}));
        text.ids.push_back(packed_ids({text.tokens[p + 1], 17}, 16));
      }
      texts.push_back(text);
    }
    write_texts((kept() / "data_0.parquet").string(), {texts.begin(), texts.begin() + 5});
    write_texts((kept() / "data_1.parquet").string(), {texts.begin() + 5, texts.end()});
  }
  static Result import(const std::string& arguments) { return run_program("retort-import", arguments); }
  Folder folder;
  std::string samples;
};

TEST_F(ImportProgram, AFolderFillsTheCacheThatAPlainRunTrainsFrom) {
  const auto file = recipe("keep: {draws: 0, head: 2, part_positions: 64}");
  write_kept(2);
  const auto partial = import("'" + file + "'");
  EXPECT_EQ(partial.exit, 2);
  EXPECT_NE(partial.err.find("retort: teacher.distillkit: 2 of 12 samples are not covered by the 10 texts of "
                             "the folder; the first is " +
                             samples),
            std::string::npos)
      << partial.err;
  EXPECT_FALSE(fs::exists(folder.path / "run"));

  write_kept(0);
  const auto plain = retort("teach '" + file + "'");
  EXPECT_EQ(plain.exit, 2);
  EXPECT_NE(plain.err.find("0 of "), std::string::npos) << plain.err;
  EXPECT_NE(plain.err.find("`retort-import RECIPE` fills it from teacher.distillkit"), std::string::npos)
      << plain.err;
  const auto early = retort("run '" + file + "'");
  EXPECT_EQ(early.exit, 2);
  EXPECT_NE(early.err.find("no teacher cache is there; `retort-import RECIPE`"), std::string::npos)
      << early.err;
  EXPECT_FALSE(fs::exists(folder.path / "run"));
  fs::rename(kept(), folder.path / "elsewhere");
  const auto imported = import("'" + file + "' '" + (folder.path / "elsewhere").string() + "'");
  ASSERT_EQ(imported.exit, 0) << imported.err;
  EXPECT_NE(imported.out.find("; 12 texts read, 12 of use\n"), std::string::npos) << imported.out;
  fs::rename(folder.path / "elsewhere", kept());  // the same files somewhere else are the same teacher
  const auto again = import("'" + file + "'");
  EXPECT_NE(again.out.find("nothing was missing"), std::string::npos) << again.out << again.err;

  const auto trained = retort("run '" + file + "'");
  ASSERT_EQ(trained.exit, 0) << trained.err;
  EXPECT_NE(trained.err.find("not measured: the teacher is known by what DistillKit kept"), std::string::npos)
      << trained.err;
  fs::remove_all(kept());  // no longer needed
  const auto without = retort("run '" + file + "'");
  EXPECT_EQ(without.exit, 0) << without.err;
  EXPECT_EQ(without.out, trained.out);
}

TEST_F(ImportProgram, CommandLinesAndRecipesThatCannotBe) {
  const auto file = recipe("keep: {draws: 7}, live: true");
  const auto both = import("'" + file + "' distill.temperature=2 teacher.path=x");
  EXPECT_EQ(both.exit, 2);
  for (const auto* line :
       {"teacher.keep: draws: 7 asks for draws from the whole distribution, DistillKit gives its likeliest "
        "tokens; set draws: 0",
        "teacher.live: DistillKit is not asked at every step",
        "teacher.distillkit: DistillKit gives probabilities at temperature 1; distill.temperature is 2",
        "teacher.distillkit: a teacher is a model on disk, behind a server or what DistillKit kept"})
    EXPECT_NE(both.err.find(line), std::string::npos) << line << "\n" << both.err;
  EXPECT_NE(import("'" + file + "' a b").err.find("b: one folder is imported at a time"), std::string::npos);
  EXPECT_EQ(import("").exit, 2);
  EXPECT_EQ(import("--help").exit, 0);
  EXPECT_NE(import("--version").out.find("retort-import "), std::string::npos);
}

}  // namespace
}  // namespace retort
