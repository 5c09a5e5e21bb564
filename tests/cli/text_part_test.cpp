// The language model of a multimodal folder from end to end: what is left out is said, adapters are named for
// the whole model, merged folders hold the language model alone.
#include "base/json.h"
#include "cli/run_program.h"
#include "cli/sparse_model.h"
#include "formats/weight_file.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kTokenizer = fs::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";

// A folder of the layout of Mistral Small 3.1: the text model under language_model., a projector beside it.
void make_multimodal(const fs::path& plain, const fs::path& target) {
  fs::copy(plain, target);
  const auto file = open_safetensors_folder(plain);
  std::vector<TensorSource> sources;
  for (const auto& tensor : file.tensors)
    sources.push_back(tensor_source("language_model." + tensor.name, tensor.type, tensor.shape, tensor.data));
  const std::vector<float> zeros(4, 0);
  sources.push_back(tensor_source("multi_modal_projector.weight", WeightType::f32, {2, 2},
                                  std::as_bytes(std::span(zeros))));
  write_safetensors_folder(target, sources, uint64_t{1} << 30);
  const Json config = {{"model_type", "mistral3"}, {"text_config", read_json(plain / "config.json")}};
  write_text(target / "config.json", config.dump());
}

TEST(TextPartRun, SaysWhatIsLeftOutAndNamesTheAdapterForTheWholeModel) {
  if (!fs::exists(kTokenizer)) GTEST_SKIP() << kTokenizer << " is absent: run tools/setup";
  const Folder folder;
  auto model = random_sparse_model("mixtral", kTokenizer.string());
  write_hf_folder(folder.path / "plain", model, WeightType::bf16, uint64_t{1} << 30, 1);
  make_multimodal(folder.path / "plain", folder.path / "base");
  const auto run = folder.path / "run";
  const auto recipe = folder.write("recipe.yaml", fmt::format(R"(model: {{path: {}, compute: f32}}
data:
  sources: [{{path: data/samples/beekeeping.jsonl}}]
  template: chatml
  held_out: {{count: 3}}
  sample_tokens: 256
  length: cut
adapter: {{kind: lora, rank: 4, targets: [q_proj]}}
train: {{steps: 2, seed: 1, threads: 1, batch: {{samples: 4, pass_tokens: 256}}}}
eval: {{tasks: [{{kind: perplexity}}]}}
export: {{adapter: true, merged: f32, gguf: [], compare_samples: 3}}
run: {{folder: {}}}
)",
                                                              (folder.path / "base").string(), run.string()));
  const std::string line = "1 tensors of the base see or hear: the language model alone is trained";
  const auto checked = retort("check " + recipe);
  EXPECT_EQ(checked.exit, 0) << checked.err;
  EXPECT_NE(checked.out.find(line), std::string::npos) << checked.out;
  const auto result = retort("run " + recipe);
  ASSERT_EQ(result.exit, 0) << result.err;
  EXPECT_NE(read_text(run / "report.html").find(line), std::string::npos);
  const auto adapter = open_safetensors(run / "export/adapter/adapter_model.safetensors");
  EXPECT_TRUE(adapter.find("base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight"));
  EXPECT_TRUE(open_safetensors_folder(run / "export/merged").find("model.layers.0.self_attn.q_proj.weight"));
  EXPECT_EQ(read_json(run / "export/merged/config.json")["model_type"], "mixtral");
}

}  // namespace
}  // namespace retort
