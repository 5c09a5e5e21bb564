// The language model of a multimodal folder: under the names of transformers 5 and of older files, the same
// model as the plain folder.
#include "models/text_part.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/model.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& family) { return fs::path(source_dir()) / "tests/golden/models" / family; }

struct Layout {
  const char *name, *model, *head;
};
constexpr Layout kLayouts[] = {{"transformers 5", "model.language_model.", "lm_head."},
                               {"older", "language_model.model.", "language_model.lm_head."}};

// A golden model as the text part of a folder that also holds a projector and a vision tower, the latter with
// a layer of the name of a text layer's.
fs::path multimodal_folder(const TemporaryFolder& folder, const std::string& family, const Layout& layout) {
  const fs::path target = folder / (family + layout.name);
  fs::create_directories(target);
  const auto file = open_safetensors(golden(family) / "model.safetensors");
  std::vector<TensorSource> sources;
  for (const auto& tensor : file.tensors) {
    const bool head = tensor.name.starts_with("lm_head.");
    const auto rest = tensor.name.substr(head ? 8 : 6);
    sources.push_back(
        tensor_source((head ? layout.head : layout.model) + rest, tensor.type, tensor.shape, tensor.data));
  }
  const std::vector<float> zeros(4, 0);
  for (const char* other : {"vision_tower.layers.0.self_attn.q_proj.weight", "multi_modal_projector.weight"})
    sources.push_back(tensor_source(other, WeightType::f32, {2, 2}, std::as_bytes(std::span(zeros))));
  write_safetensors(target / "model.safetensors", sources, {{"format", "pt"}});
  auto text = read_json(golden(family) / "config.json");
  Json whole = {{"model_type", "whole"}, {"eos_token_id", {2, 5}}, {"vision_config", Json::object()}};
  whole["tie_word_embeddings"] = text["tie_word_embeddings"];
  text.erase("eos_token_id"), text.erase("tie_word_embeddings");
  whole["text_config"] = text;
  write_text(target / "config.json", whole.dump());
  return target;
}

Tensor logits_of(const Model& model) {
  Forest forest;
  std::vector<int32_t> tokens, rows;
  for (int32_t i = 0; i < 40; ++i) tokens.push_back(3 + i * 37 % 90), rows.push_back(i);
  forest.add_segment(tokens);
  const auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  return logits(model.hidden(pass), rows, model.head, pass);
}

TEST(TextPart, OfEitherLayoutIsTheModelAlone) {
  const TemporaryFolder folder;
  for (const auto* family : {"gemma3", "mistral", "ministral3"}) {
    const auto alone = load_weights({.path = golden(family).string(), .compute = "f32"});
    for (const auto& layout : kLayouts) {
      SCOPED_TRACE(std::string(family) + ", " + layout.name);
      const auto loaded =
          load_weights({.path = multimodal_folder(folder, family, layout).string(), .compute = "f32"});
      EXPECT_TRUE(loaded.multimodal);
      EXPECT_EQ(loaded.left_out, 2u);
      EXPECT_EQ(loaded.model->config.tied_head, alone.model->config.tied_head);
      EXPECT_EQ(loaded.model->config.eos, (std::vector<int32_t>{2, 5}));
      EXPECT_TRUE(at::equal(logits_of(*loaded.model), logits_of(*alone.model)));
    }
    EXPECT_FALSE(alone.multimodal);
  }
}

TEST(TextPart, NamesAreThoseOfTheModelAlone) {
  EXPECT_EQ(plain_module("model.language_model.layers.3.mlp.up_proj"), "model.layers.3.mlp.up_proj");
  EXPECT_EQ(plain_module("language_model.model.layers.3.mlp.up_proj"), "model.layers.3.mlp.up_proj");
  EXPECT_EQ(plain_module("model.layers.3.mlp.up_proj"), "model.layers.3.mlp.up_proj");
  EXPECT_EQ(multimodal_module("model.layers.3.mlp.up_proj"), "model.language_model.layers.3.mlp.up_proj");
  EXPECT_EQ(multimodal_module("lm_head"), "lm_head");
}

std::string refusal(const fs::path& path) {
  try {
    load_weights({.path = path.string(), .compute = "f32"});
  } catch (const FormatError& error) { return error.what(); }
  return "accepted";
}

TEST(TextPart, IsRefusedWhereItIsAbsentOrTwiceThere) {
  const TemporaryFolder folder;
  const auto target = multimodal_folder(folder, "mistral", kLayouts[0]);
  const std::vector<float> zeros(4, 0);
  const auto other =
      tensor_source("vision_tower.w", WeightType::f32, {2, 2}, std::as_bytes(std::span(zeros)));
  write_safetensors(target / "model.safetensors", {other}, {{"format", "pt"}});
  EXPECT_NE(refusal(target).find("no tensor is named model.language_model."), std::string::npos)
      << refusal(target);
  auto one = other, two = other;
  one.name = "model.language_model.norm.weight", two.name = "language_model.model.norm.weight";
  write_safetensors(target / "model.safetensors", {one, two}, {{"format", "pt"}});
  EXPECT_NE(refusal(target).find("model.norm.weight: stands twice"), std::string::npos) << refusal(target);
  write_text(target / "config.json", R"({"text_config": 7})");
  EXPECT_NE(refusal(target).find("text_config: expected a section"), std::string::npos) << refusal(target);
}

}  // namespace
}  // namespace retort
