// Exports of a model whose layer behind the last was read (model.mtp), and of one whose was not.
#include <gtest/gtest.h>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "export/artefacts.h"
#include "export/rehearse.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/adapter_folder.h"
#include "formats/weight_file.h"
#include "models/mtp_folder.h"  // tests/models

namespace retort {
namespace {

namespace fs = std::filesystem;

class MtpExport : public testing::Test {
 protected:
  const TemporaryFolder folder;
  const std::string base = mtp_folder(folder / "base", "deepseek_v3"), out = folder / "out";

  void SetUp() override {
    write_text(fs::path(base) / "tokenizer.json", tiny_tokenizer(96).dump());
    write_text(fs::path(base) / "tokenizer_config.json",
               Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}}).dump());
  }
  static LoadedModel open(const std::string& path, bool mtp = true) {
    return load_model({.path = path, .compute = "f32", .mtp = mtp});
  }
  static AdapterSpec spec_of(std::vector<std::string> targets) {
    AdapterSpec spec;
    spec.rank = 2, spec.alpha = 2;
    spec.targets = std::move(targets);
    return spec;
  }
  LoadedModel adapted(const std::vector<std::string>& targets) const {
    auto loaded = open(base);
    const at::NoGradGuard no_graph;
    for (auto& [name, tensor, place] : attach(*loaded.model, spec_of(targets), 1))
      if (name.find("lora_B") != std::string::npos)
        tensor->copy_(at::arange(tensor->numel(), at::kFloat).sin().view_as(*tensor).mul_(0.1));
    return loaded;
  }
  // Log-probabilities of the token after the next, behind hidden states that are made up.
  static Tensor says(const LoadedModel& loaded) {
    const auto& model = *loaded.model;
    Forest forest;
    forest.add_segment({3, 14, 15, 92, 65, 35});
    const at::NoGradGuard no_graph;
    const auto pass = make_pass(forest, at::kFloat);
    const auto states = model.mtp_states(random({6, model.config.hidden}, 5), pass);
    return logits(states, std::vector<int32_t>{0, 1, 2, 3, 4, 5}, model.head, pass);
  }
  static std::vector<std::string> names_behind(const WeightFile& file, const std::string& beginning) {
    std::vector<std::string> names;
    for (const auto& tensor : file.tensors)
      if (tensor.name.starts_with(beginning)) names.push_back(tensor.name);
    return names;
  }
  static bool same_bytes(const WeightFile& a, const WeightFile& b, const std::string& name) {
    const auto *one = a.find(name), *other = b.find(name);
    return one && other && std::ranges::equal(one->data, other->data);
  }
};

}  // namespace

TEST_F(MtpExport, MergedFoldersHoldWhatWasTrained) {
  auto loaded = adapted({"auto", "mtp"});
  EXPECT_GT(distance(says(loaded), says(open(base))), 1e-3);
  write_hf_folder(out, loaded, WeightType::f32, uint64_t{1} << 30, 1);
  EXPECT_EQ(read_json(fs::path(out) / "config.json")["num_nextn_predict_layers"], 1);
  EXPECT_LT(distance(says(open(out)), says(loaded)), 1e-5);
  const auto before = open_safetensors_folder(base), after = open_safetensors_folder(out);
  EXPECT_EQ(names_behind(after, "model.layers.3.").size(), names_behind(before, "model.layers.3.").size());
  const auto *copy = after.find("model.layers.3.shared_head.head.weight"),
             *head = after.find("lm_head.weight");
  ASSERT_TRUE(copy && head);
  EXPECT_TRUE(std::ranges::equal(copy->data, head->data));

  auto plain = open(base, false);
  write_hf_folder(folder / "plain", plain, WeightType::f32, uint64_t{1} << 30, 1);
  EXPECT_EQ(read_json(fs::path(folder / "plain") / "config.json")["num_nextn_predict_layers"], 0);
  EXPECT_TRUE(names_behind(open_safetensors_folder(folder / "plain"), "model.layers.3.").empty());
}

TEST_F(MtpExport, KeptFoldersChangeWhatWasTrainedAlone) {
  auto loaded = adapted({"mtp"});
  write_kept_folder(out, loaded, 1);
  const auto before = open_safetensors_folder(base), after = open_safetensors_folder(out);
  ASSERT_EQ(before.tensors.size(), after.tensors.size());
  for (const auto& tensor : before.tensors) {
    const bool trained =
        tensor.name.starts_with("model.layers.3.") && (tensor.name.find("eh_proj") != std::string::npos ||
                                                       (tensor.name.find("self_attn.") != std::string::npos &&
                                                        tensor.name.find("layernorm") == std::string::npos));
    EXPECT_EQ(same_bytes(before, after, tensor.name), !trained) << tensor.name;
  }
  EXPECT_LT(distance(says(open(out)), says(loaded)), 0.05);  // attention is bf16 in this file

  auto plain = open(base, false);  // and where nobody asks for it, it is copied
  write_kept_folder(folder / "plain", plain, 1);
  const auto copied = open_safetensors_folder(folder / "plain");
  for (const auto& tensor : before.tensors)
    EXPECT_TRUE(same_bytes(before, copied, tensor.name)) << tensor.name;
}

TEST_F(MtpExport, KeptFoldersOfABaseWithoutCopiesHaveNone) {
  const auto original = open_safetensors_folder(base);
  std::vector<TensorSource> tensors;
  for (const auto& tensor : original.tensors)
    if (tensor.name != "model.layers.3.embed_tokens.weight" &&
        tensor.name != "model.layers.3.shared_head.head.weight")
      tensors.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
  const fs::path lean = folder / "lean";
  write_safetensors_folder(lean, tensors, uint64_t{1} << 30);
  for (const char* name : {"config.json", "tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(fs::path(base) / name, lean / name);
  auto loaded = open(lean.string());
  write_kept_folder(out, loaded, 1);
  EXPECT_EQ(open_safetensors_folder(out).tensors.size(), tensors.size());
}

TEST_F(MtpExport, GgufFilesAreWithoutIt) {
  auto loaded = adapted({"shared_experts.down_proj", "mtp"});
  write_gguf_model(folder / "m.gguf", loaded, *mixture_from_name("F32"), true, 1);
  const auto file = open_gguf(folder / "m.gguf");
  EXPECT_FALSE(names_behind(file, "blk.2.").empty());
  EXPECT_TRUE(names_behind(file, "blk.3.").empty());
  EXPECT_EQ(load_model({.path = folder / "m.gguf"}).model->config.layers, 3);
  EXPECT_NE(refusal_of([&] { load_model({.path = folder / "m.gguf", .mtp = true}); }).find("is a GGUF file"),
            std::string::npos);
  write_gguf_adapter(folder / "a.gguf", loaded, spec_of({"shared_experts.down_proj", "mtp"}));
  const auto adapter = open_gguf(folder / "a.gguf");
  EXPECT_FALSE(adapter.tensors.empty());
  for (const auto& tensor : adapter.tensors) EXPECT_FALSE(tensor.name.starts_with("blk.3.")) << tensor.name;
  auto alone = adapted({"mtp"});
  EXPECT_NE(refusal_of([&] {
              write_gguf_adapter(folder / "b.gguf", alone, spec_of({"mtp"}));
            }).find("no low-rank adapter to write"),
            std::string::npos);
}

TEST_F(MtpExport, AdaptersNameItAsTheCheckpointDoes) {
  const std::vector<std::string> targets{"auto", "mtp"};
  auto loaded = adapted(targets);
  write_peft_adapter(out, loaded, spec_of(targets));
  const auto modules =
      read_json(fs::path(out) / "adapter_config.json")["target_modules"].get<std::vector<std::string>>();
  const auto named = [&](const std::string& name) {
    return std::ranges::find(modules, name) != modules.end();
  };
  EXPECT_TRUE(named("model.layers.3.eh_proj"));
  EXPECT_TRUE(named("model.layers.3.self_attn.o_proj"));
  EXPECT_TRUE(named("o_proj"));
  EXPECT_FALSE(named("eh_proj"));

  auto again = open(base);
  EXPECT_TRUE(load_adapter(again, out).empty());
  const auto read = trainables(*again.model), written = trainables(*loaded.model);
  ASSERT_EQ(read.size(), written.size());
  for (size_t i = 0; i < read.size(); ++i) {
    EXPECT_EQ(read[i].name, written[i].name);
    EXPECT_TRUE(at::equal(*read[i].tensor, *written[i].tensor)) << read[i].name;
  }
  const auto said = described_adapter(*again.model).targets;
  EXPECT_EQ(std::ranges::count(said, "mtp"), 1);
  auto from = spec_of(summary_of(open_adapter_folder(out)).targets);  // as take_from_adapter() leaves it
  from.from = out;
  auto start = open(base);
  EXPECT_EQ(refusal_of([&] { require_start(start, from); }), "accepted");

  auto plain = open(base, false);
  const auto notes = load_adapter(plain, out);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_NE(notes[0].find("6 of its layers belong to the layer behind the last"), std::string::npos)
      << notes[0];
  EXPECT_TRUE(has_adapters(*plain.model));

  auto alone = adapted({"mtp"});
  write_peft_adapter(folder / "alone", alone, spec_of({"mtp"}));
  auto other = open(base, false);
  EXPECT_NE(refusal_of([&] { load_adapter(other, folder / "alone"); }).find("set model.mtp: true"),
            std::string::npos);
  EXPECT_FALSE(has_adapters(*other.model));
}

TEST_F(MtpExport, EveryExportIsRehearsed) {
  auto loaded = open(base);
  ExportSpec spec;
  for (const char* merged : {"bf16", "keep"}) {
    spec.merged = merged;
    spec.gguf = {"F16"};
    EXPECT_EQ(refusal_of([&] {
                rehearse_exports(loaded, spec, spec_of({"auto", "mtp"}), folder / "runs");
              }),
              "accepted");
  }
}

}  // namespace retort
