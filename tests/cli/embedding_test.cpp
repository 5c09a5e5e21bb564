// Embedding and head from outside: adapted, a few rows trained alone, and tokens that the base lacks.
#include "base/json.h"
#include "cli/run_program.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/weight_file.h"

namespace retort {
namespace {

namespace fs = std::filesystem;

std::string recipe(const Folder& folder, const std::string& family, const std::string& more) {
  if (!fs::exists(folder.path / family)) tiny_folder(folder.path / family, family, tiny_tokenizer(96));
  std::string lines;
  for (int i = 0; i < 12; ++i) lines += fmt::format("{{\"text\": \"sample{}law{}\"}}\n", i, 7 * i);
  return folder.write("r.yaml",
                      fmt::format("model: {{path: {}, compute: f32}}\n"
                                  "data: {{sources: [{{path: {}}}], template: plain, loss: all, "
                                  "held_out: {{count: 3}}}}\n"
                                  "train: {{steps: 3, threads: 1, batch: {{samples: 4}}}}\n"
                                  "eval: {{tasks: [{{kind: perplexity}}]}}\n"
                                  "run: {{folder: {}}}\n{}",
                                  (folder.path / family).string(), folder.write("samples.jsonl", lines),
                                  (folder.path / "run").string(), more));
}

// Every export of such a run is compared with the trained model by the run itself, which ends with 3 where
// one in fp32 is another.
TEST(EmbeddingRun, TrainsExportsAndComparesWhatIsAdapted) {
  for (const std::string family : {"llama", "qwen2"})
    for (const std::string adapter :
         {"targets: [all, embed_tokens, lm_head]", "targets: [embed_tokens]",
          "targets: [q_proj], trainable_tokens: [77, 'a'], trainable_tokens_head: true"}) {
      const Folder folder;
      const auto file =
          recipe(folder, family,
                 fmt::format("adapter: {{rank: 2, {}}}\nexport: {{merged: f32, gguf: [F32]}}\n", adapter));
      const auto checked = retort("check " + file);
      EXPECT_EQ(checked.exit, 0) << checked.err;
      const auto result = retort("run " + file);
      ASSERT_EQ(result.exit, 0) << family << " " << adapter << result.err;
      EXPECT_EQ(retort("verify " + (folder.path / "run").string()).exit, 0);
      const auto config = read_json(folder.path / "run/export/merged/config.json");
      EXPECT_EQ(config["tie_word_embeddings"],
                family == "qwen2" && adapter.find("trainable") != std::string::npos)
          << family << " " << adapter;
      const auto again = retort(fmt::format(
          "generate -m {} --adapter {} --raw --compute f32 --max-tokens 4 --ignore-ends --threads 1 abc",
          (folder.path / family).string(), (folder.path / "run/export/adapter").string()));
      EXPECT_EQ(again.exit, 0) << again.err;
      // A second run goes on from it.
      const auto on =
          retort(fmt::format("run {} run.folder={} adapter.from={}", file, (folder.path / "on").string(),
                             (folder.path / "run/export/adapter").string()));
      EXPECT_EQ(on.exit, 0) << on.err;
    }
}

TEST(EmbeddingRun, AddsTokensThatEveryExportKnows) {
  for (const std::string family : {"llama", "qwen2"}) {
    const Folder folder;
    const auto file = recipe(folder, family,
                             "adapter: {rank: 2, targets: [q_proj]}\n"
                             "export: {merged: f32, gguf: [F32, Q8_0]}\n");
    const std::string more = " \"model.add_tokens=['<|law|>']\" \"model.add_words=[law]\"";
    const auto checked = retort("check " + file + more);
    EXPECT_EQ(checked.exit, 0) << checked.err;
    const auto result = retort("run " + file + more);
    ASSERT_EQ(result.exit, 0) << result.err;
    const auto out = folder.path / "run/export";
    EXPECT_EQ(read_json(out / "merged/config.json")["vocab_size"], 98);
    for (const auto& model : {out / "merged", out / "model-F32.gguf", out / "model-Q8_0.gguf"}) {
      const auto loaded = load_model({.path = model.string()});
      EXPECT_EQ(loaded.tokenizer->find("<|law|>"), 96) << model;
      EXPECT_EQ(loaded.tokenizer->find("law"), 97) << model;
      const auto answer = retort(
          fmt::format("generate -m {} --raw --compute f32 --max-tokens 4 --ignore-ends --threads 1 alawb",
                      model.string()));
      EXPECT_EQ(answer.exit, 0) << answer.err;
    }
    const auto evaluated =
        retort(fmt::format("eval {} model.path={} run.folder={}", file, (out / "merged").string(),
                           (folder.path / "of-merged").string()));
    EXPECT_EQ(evaluated.exit, 0) << evaluated.err;
    // The adapter brings its tokens along.
    const auto answer = retort(fmt::format(
        "generate -m {} --adapter {} --raw --compute f32 --max-tokens 4 --ignore-ends --threads 1 alawb",
        (folder.path / family).string(), (out / "adapter").string()));
    EXPECT_EQ(answer.exit, 0) << answer.err;
    const auto merged = retort(fmt::format("export -m {} --adapter {} -o {} --merged f32 --threads 1",
                                           (folder.path / family).string(), (out / "adapter").string(),
                                           (folder.path / "by-hand").string()));
    EXPECT_EQ(merged.exit, 0) << merged.err;
    EXPECT_EQ(read_text(folder.path / "by-hand/merged/tokenizer.json"),
              read_text(out / "merged/tokenizer.json"));
  }
}

TEST(EmbeddingRun, WhatCannotBeWrittenIsRefusedBeforeTraining) {
  const Folder folder;
  const auto says = [&](const std::string& family, const std::string& more, const std::string& line) {
    const auto result = retort("run " + recipe(folder, family, more));
    EXPECT_EQ(result.exit, 2) << result.err;
    EXPECT_NE(result.err.find(line), std::string::npos) << result.err;
    EXPECT_FALSE(fs::exists(folder.path / "run/checkpoints"));
  };
  says("gemma3", "adapter: {targets: [q_proj], modules_to_save: [lm_head]}\nexport: {gguf: [F32]}\n",
       "the adapter section gives embedding and head a matrix each; they are one in the base");
  says("gemma3", "adapter: {targets: [embed_tokens]}\nexport: {gguf: [F32]}\n",
       "llama.cpp takes the embedding for the head of every Gemma");
  says("qwen2", "adapter: {targets: [lm_head]}\nexport: {gguf: [], gguf_adapter: true}\n",
       "export.gguf_adapter: the base's embedding and head are one tensor");
  says("qwen2",
       "adapter: {targets: [q_proj], trainable_tokens: [3]}\nexport: {gguf: [], gguf_adapter: true}\n",
       "export.gguf_adapter: a GGUF adapter cannot hold adapter.trainable_tokens");
}

TEST(EmbeddingRun, AnAdapterWithoutTheNewTokensIsNoStart) {
  const Folder folder;
  const auto file =
      recipe(folder, "qwen2", "adapter: {rank: 2, targets: [q_proj]}\nexport: {merged: none, gguf: []}\n");
  ASSERT_EQ(retort("run " + file).exit, 0);
  const auto on =
      retort(fmt::format("check {} run.folder={} adapter.from={} \"model.add_words=[law]\"", file,
                         (folder.path / "on").string(), (folder.path / "run/export/adapter").string()));
  EXPECT_EQ(on.exit, 2);
  EXPECT_NE(on.err.find("has no rows of the tokens that are added here; make it a part of the base "
                        "(adapter.merge) and start from a fresh adapter"),
            std::string::npos)
      << on.err;
}

}  // namespace
}  // namespace retort
