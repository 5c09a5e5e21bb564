// Models with experts from end to end: checked, trained, exported, reopened, generated with and pruned by the
// program.
#include "adapters/load_adapter.h"
#include "base/json.h"
#include "cli/run_program.h"
#include "cli/sparse_model.h"
#include "formats/weight_file.h"
#include "where.h"  // tests

namespace retort {

namespace {

namespace fs = std::filesystem;

const fs::path kTokenizer = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";

class SparseRun : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!fs::exists(kTokenizer)) GTEST_SKIP() << kTokenizer << " is absent: run tools/setup";
    auto model = random_sparse_model(GetParam(), kTokenizer.string());
    write_hf_folder(base(), model, WeightType::bf16, uint64_t{1} << 30, 1);
  }
  fs::path base() const { return folder.path / "base"; }
  std::string recipe(const std::string& adapter, const std::string& more) const {
    return folder.write("recipe.yaml",
                        fmt::format(R"(model: {{path: {}, compute: f32}}
data:
  sources: [{{path: data/samples/beekeeping.jsonl}}]
  template: chatml
  held_out: {{count: 3}}
  sample_tokens: 256
  length: cut
adapter: {}
train:
  {{steps: 4, seed: 1, threads: 1, batch: {{samples: 4, pass_tokens: 256}},
   optimizer: {{learning_rate: 1.0e-2}}}}
eval: {{tasks: [{{kind: perplexity}}]}}
run: {{folder: {}}}
{})",
                                    base().string(), adapter, (folder.path / "run").string(), more));
  }
  Folder folder;
};

// Logits at the end of a text by what is in a file or folder.
Tensor logits_of(const LoadedModel& loaded) {
  Forest forest;
  forest.add_segment(
      loaded.tokenizer->encode("A hive is opened in spring, when the first willows flower and it is warm."));
  const auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  return logits(loaded.model->hidden(pass), std::vector<int32_t>{static_cast<int32_t>(forest.size()) - 1},
                loaded.model->head, pass);
}
Tensor logits_of(const fs::path& path) {
  return logits_of(load_model({.path = path.string(), .weights = "f32", .compute = "f32"}));
}
double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

}  // namespace

TEST_P(SparseRun, TrainsLoraOnExpertsAndExportsWhatItTrained) {
  const auto file = recipe(
      "{kind: lora, rank: 4, alpha: 16, targets: [all]}",
      "export: {adapter: true, gguf_adapter: true, merged: f32, gguf: [F32, Q8_0], compare_samples: 3}");
  const auto checked = retort("check " + file);
  EXPECT_EQ(checked.exit, 0) << checked.err;
  // The embedding of 49152 x 64, mixtral's head besides; 2 layers of 12288 in attention and 4 x 3 x 64 x 32
  // (mixtral: 96) in experts.
  const std::string sizes =
      GetParam() == std::string("mixtral") ? "6.5 million weights, 6.4" : "3.2 million weights, 3.2";
  EXPECT_NE(checked.out.find(sizes + " million of them for each token (2 of 4 experts)"), std::string::npos)
      << checked.out;
  expect_one_line(retort("run " + file + " adapter.targets=[gate]"), 2,
                  "retort: adapter.targets: 'gate' is a router, which takes no low-rank adapter; list it in "
                  "adapter.modules_to_save to train it whole");
  const auto result = retort("run " + file);
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(result.err.find("the busiest has "), std::string::npos) << result.err;
  EXPECT_NE(read_text(folder.path / "run/report.html").find("Use of experts"), std::string::npos);
  const auto exports = folder.path / "run/export";
  auto trained = load_model({.path = base().string(), .weights = "f32", .compute = "f32"});
  const auto before = logits_of(trained);
  load_adapter(trained, exports / "adapter");
  const auto after = logits_of(trained);
  EXPECT_GT(distance(after, before), 1e-2);  // it learned something
  EXPECT_LT(distance(logits_of(exports / "merged"), after), 1e-5);
  EXPECT_LT(distance(logits_of(exports / "model-F32.gguf"), after), 1e-5);
  EXPECT_LT(distance(logits_of(exports / "model-Q8_0.gguf"), after), 5e-2);
  auto again = load_model({.path = base().string(), .weights = "f32", .compute = "f32"});
  load_adapter(again, exports / "adapter.gguf");
  EXPECT_LT(distance(logits_of(again), after), 1e-5);

  const auto gguf = open_gguf(exports / "model-F32.gguf");
  const auto* stack = gguf.find("blk.1.ffn_down_exps.weight");
  ASSERT_TRUE(stack);
  EXPECT_EQ(stack->shape, (std::vector<int64_t>{4, 64, GetParam() == std::string("mixtral") ? 96 : 32}));
  EXPECT_EQ(text(gguf.metadata("general.architecture")) ? *text(gguf.metadata("general.architecture")) : "",
            GetParam() == std::string("mixtral") ? "llama" : "qwen3moe");
  for (const auto* path : {"merged", "model-Q8_0.gguf"}) {
    const auto said = retort(fmt::format("generate -m {} --raw --max-tokens 5 --temperature 0 'A hive is'",
                                         (exports / path).string()));
    EXPECT_EQ(said.exit, 0) << said.err;
    EXPECT_EQ(retort("inspect " + (exports / path).string()).exit, 0);
  }
}

TEST_P(SparseRun, TrainsEverythingAndRecomputesToTheSameBytes) {
  const auto file = recipe("{kind: full}", "export: {merged: f32}");
  ASSERT_EQ(retort("train " + file + " train.steps=4").exit, 0);
  const auto whole = read_text(folder.path / "run/trained.safetensors");
  const auto trained = open_safetensors(folder.path / "run/trained.safetensors");
  const std::string router = GetParam() == std::string("mixtral")
                                 ? "model.layers.0.block_sparse_moe.gate.weight"
                                 : "model.layers.0.mlp.gate.weight";
  const auto start = open_safetensors_folder(base());
  const auto *before = start.find(router), *after = trained.find(router);
  ASSERT_TRUE(before && after);
  EXPECT_EQ(after->type, WeightType::f32);
  std::vector<float> old(4 * 64);
  dequantize_rows(before->type, before->data.data(), old.data(), 4, 64);
  EXPECT_NE(std::memcmp(old.data(), after->data.data(), old.size() * sizeof(float)),
            0);  // the router learned too
  fs::remove_all(folder.path / "run");
  const auto recomputed = retort("train " + file + " train.steps=4 train.recompute=true");
  ASSERT_EQ(recomputed.exit, 0) << recomputed.err;
  EXPECT_TRUE(read_text(folder.path / "run/trained.safetensors") ==
              whole);  // the same numbers, in less memory
}

TEST_P(SparseRun, PrunesAndMergesExpertsIntoAnOrdinaryFolder) {
  const auto file = recipe("{kind: none}", "prune: {experts: 2, dropped_experts: merge, samples: 8}");
  const auto student = folder.path / "student";
  const auto result = retort(fmt::format("prune {} {} --type f32", file, student.string()));
  ASSERT_EQ(result.exit, 0) << result.err;
  const auto config = read_json(student / "config.json");
  EXPECT_EQ(config[GetParam() == std::string("mixtral") ? "num_local_experts" : "num_experts"], 2);
  EXPECT_EQ(config["num_experts_per_tok"], 2);
  const auto kept = read_json(student / "prune.json")["kept"];
  EXPECT_EQ(kept.size(), 2u);
  EXPECT_NE(kept[0].get<std::string>().find("experts 2 of 4 in layer 0: "), std::string::npos);
  EXPECT_NE(kept[0].get<std::string>().find("merged, cosine of router logits: "), std::string::npos);
  EXPECT_EQ(load_model({.path = student.string()}).model->config.experts, 2);
  EXPECT_TRUE(logits_of(student).isfinite().all().item<bool>());
}

TEST_P(SparseRun, HoldsExpertsInFewBits) {
  for (const std::string weights : {"nf4", "int8", "q8_0"}) {
    const auto said = retort(fmt::format("eval {} model.weights={}", recipe("{kind: none}", ""), weights));
    EXPECT_EQ(said.exit, 0) << weights << said.err;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, SparseRun, testing::Values("qwen3_moe", "mixtral"),
                         [](const auto& family) { return std::string(family.param); });

}  // namespace retort
