// Every family in every format of a whole model: written, opened again by our reader, and the same logits.
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "data/temporary_folder.h"  // tests/data
#include "export/artefacts.h"
#include "models/families.h"
#include "models/read_config.h"
#include "models/tensor_names.h"
#include "ops/tensors.h"  // tests/ops
#include "student/prune.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(source_dir()) / "tests/golden/models";

// Models of tests/golden/models: every family once, some twice. (Those at 4 bits lie one folder deeper.)
std::vector<std::string> golden_folders() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGolden))
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

// 96 tokens, as many as the golden models have: control tokens and single characters.
std::shared_ptr<const Tokenizer> characters() {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "smollm";
  vocabulary.tokens = {"<pad>", "<bos>", "<eos>", "\xc4\xa0", "\xc4\x8a"};  // the last two: space, new line
  vocabulary.token_types = {3, 3, 3, 1, 1};
  for (char c = '!'; vocabulary.tokens.size() < 96; ++c) {
    vocabulary.tokens.emplace_back(1, c);
    vocabulary.token_types.push_back(1);
  }
  vocabulary.tokens.back() = "th";  // llama.cpp wants a merge
  vocabulary.merges = {"t h"};
  vocabulary.pad = 0, vocabulary.bos = 1, vocabulary.eos = 2;
  return tokenizer_from_gguf(vocabulary, "characters");
}

// [rows, V]: long enough that every window of the golden models hides something.
Tensor logits_of(const Model& model) {
  Forest forest;
  std::vector<int32_t> tokens;
  for (int32_t i = 0; i < 70; ++i) tokens.push_back(3 + i * 37 % 90);
  forest.add_segment(tokens);
  std::vector<int32_t> rows(tokens.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  const auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  return logits(model.hidden(pass), rows, model.head, pass);
}

struct Format {
  const char* name;
  double rounding;  // of the largest weight of a matrix
};
constexpr Format kFolders[] = {{"f32", 0}, {"bf16", 1.0 / 256}};
constexpr Format kFiles[] = {{"F32", 1e-6}, {"Q8_0", 1.0 / 127}};  // Gemma's 1 + w rounds in F32 too

// The matrices of one model under the configuration of another, or of itself changed.
std::unique_ptr<Model> model_of(const ModelConfig& config, Model& weights) {
  const auto linear = [&](const TensorPlace& place) {
    if (place.role == Role::head) return weights.head.linear;
    for (const auto* layer : weights.linears())
      if (layer->place == place) return *layer;
    throw std::out_of_range(tensor_name(config, place));
  };
  const auto vector = [&](const TensorPlace& place) {
    for (const auto& each : weights.vectors())
      if (each.place == place) return *each.tensor;
    throw std::out_of_range(tensor_name(config, place));
  };
  return build_model(config, linear, vector, [&](const TensorPlace&) { return weights.embedding.weight; });
}

LoadedModel under(const ModelConfig& config, Model& weights) {
  LoadedModel loaded;
  loaded.model = model_of(config, weights);
  loaded.tokenizer = characters();
  return loaded;
}

fs::path write(const TemporaryFolder& folder, LoadedModel& loaded, const Format& format, bool gguf) {
  const fs::path path = folder / (std::string(format.name) + (gguf ? ".gguf" : ""));
  if (gguf) write_gguf_model(path, loaded, *mixture_from_name(format.name), true, 2);
  else write_hf_folder(path, loaded, *type_from_name(format.name), 1 << 30, 2);
  return path;
}

// Every number of the configuration tells in the logits, which are those of the same weights under the
// configuration that was written; the weights themselves differ by what the format rounds.
void expect_same(const fs::path& path, const Format& format, LoadedModel& loaded) {
  const auto& config = loaded.model->config;
  const auto again = load_model({.path = path.string(), .compute = "f32"});
  EXPECT_LT(distance(logits_of(*again.model), logits_of(*model_of(config, *again.model))), 1e-5);
  const auto now = again.model->linears(), before = loaded.model->linears();
  ASSERT_EQ(now.size(), before.size());
  for (size_t i = 0; i < now.size(); ++i) {
    EXPECT_EQ(now[i]->name, before[i]->name);
    EXPECT_LE(distance(widen(now[i]->weight, at::kFloat), widen(before[i]->weight, at::kFloat)),
              format.rounding)
        << now[i]->name;
    EXPECT_EQ(now[i]->bias.defined(), before[i]->bias.defined()) << now[i]->name;
  }
  const auto vectors = again.model->vectors(), old = loaded.model->vectors();
  ASSERT_EQ(vectors.size(), old.size());
  for (size_t i = 0; i < old.size(); ++i) {
    EXPECT_EQ(vectors[i].name, old[i].name);
    EXPECT_LE(distance(*vectors[i].tensor, *old[i].tensor), std::min(format.rounding, 1.0 / 256))
        << old[i].name;
  }
  EXPECT_EQ(again.model->config.family, config.family);
  EXPECT_EQ(again.model->config.tied_head, config.tied_head);
  EXPECT_EQ(again.model->config.eos, config.eos);
  EXPECT_EQ(again.model->config.bos, config.bos);
  EXPECT_EQ(again.model->config.pad, config.pad);
  const auto* text = "Kepler's third (1619) law";
  EXPECT_EQ(again.tokenizer->encode(text), loaded.tokenizer->encode(text));
}

// `refused`: words of the reason why GGUF cannot hold this model.
void expect_same_in_every_format(LoadedModel& loaded, const std::string& refused = "") {
  const TemporaryFolder folder;
  for (const auto& format : kFolders) {
    SCOPED_TRACE(format.name);
    expect_same(write(folder, loaded, format, false), format, loaded);
  }
  for (const auto& format : kFiles) {
    SCOPED_TRACE(format.name);
    const auto reason = gguf_refusal(loaded.model->config);
    if (refused.empty()) {
      ASSERT_EQ(reason, "");
      expect_same(write(folder, loaded, format, true), format, loaded);
    } else {
      EXPECT_NE(reason.find(refused), std::string::npos) << reason;
      EXPECT_THROW(write(folder, loaded, format, true), FormatError);
    }
  }
}

std::string gguf_cannot(const std::string& golden) {
  if (golden == "qwen3_moe_plain") return "norm_topk_prob: false";
  if (golden == "qwen3_moe_dense") return "wants experts in every layer";
  if (golden.ends_with("_bias") && golden != "llama_bias") return "no bias of o_proj";
  if (golden == "deepseek_v32") return "as large (attention_factor, or mscale without mscale_all_dim)";
  if (golden == "deepseek_v32_sparse") return "Hadamard matrix of 64, 128";
  if (golden == "deepseek_v2_groups") return "reads no biases of attention";
  if (golden == "glm4_moe_lite_mixed" || golden == "mistral4_groups")
    return "halves apart (rope_interleave: false)";
  if (golden == "gemma2") return "query_pre_attn_scalar 16 where this model has 24";
  return "";
}

class Families : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    loaded = load_weights({.path = (kGolden / GetParam()).string(), .compute = "f32"});
    loaded.tokenizer = characters();
  }
  LoadedModel loaded;
};

TEST_P(Families, AreReadAsTheyWereWritten) { expect_same_in_every_format(loaded, gguf_cannot(GetParam())); }

TEST_P(Families, OfHalfTheLayersAreReadAsTheyWereWritten) {
  const PruneSpec spec{.layers = (loaded.model->config.layers + 1) / 2};
  auto pruned = prune(loaded, at::kFloat, spec, Samples(), 1);
  const auto refused = GetParam() == "olmo3" ? "three of four layers" : gguf_cannot(GetParam());
  expect_same_in_every_format(pruned.model, refused);
}

// With the attention scale that llama.cpp takes for it, Gemma 2 goes into a GGUF file too; windows in every
// layer, in none, and in other places than usual.
TEST_P(Families, GemmasWindowsAreReadAsTheyWereWritten) {
  if (!GetParam().starts_with("gemma")) GTEST_SKIP() << "not a Gemma";
  auto config = loaded.model->config;
  config.attention_scale = 0;
  if (config.output_bias) GTEST_SKIP() << "no GGUF file holds it";
  const auto layers = static_cast<size_t>(config.layers);
  std::vector<bool> last_full(layers, true), first_full(layers, true);
  last_full.back() = false, first_full.front() = false;
  for (const auto& sliding :
       {last_full, first_full, std::vector<bool>(layers, true), std::vector<bool>(layers, false)}) {
    config.sliding_layers = sliding;
    auto other = under(config, *loaded.model);
    expect_same_in_every_format(other);
  }
}

// Windows in some layers of a family for which llama.cpp computes none: at least this reader is told.
TEST(FamilyTable, WindowsOfSomeLayersSurvive) {
  auto loaded = load_weights({.path = (kGolden / "qwen2").string(), .compute = "f32"});
  auto config = loaded.model->config;
  config.sliding_window = 8, config.sliding_layers = {false, true};
  auto other = under(config, *loaded.model);
  expect_same_in_every_format(other);
}

TEST(FamilyTable, SaysWhatGgufCannotHold) {
  const auto config_of = [](const char* golden) {
    return load_weights({.path = (kGolden / golden).string(), .compute = "f32"}).model->config;
  };
  auto config = config_of("qwen3");
  EXPECT_EQ(gguf_refusal(config), "");
  config.rope.scaling = RopeScaling::llama3;
  EXPECT_NE(gguf_refusal(config).find("kind llama3"), std::string::npos);
  config.rope.scaling = RopeScaling::longrope;
  EXPECT_NE(gguf_refusal(config).find("kind longrope"), std::string::npos);
  config.rope.scaling = RopeScaling::yarn, config.rope.truncate = false;
  EXPECT_NE(gguf_refusal(config).find("truncate: false"), std::string::npos);
  for (const auto* golden : {"qwen2", "phi3"}) {
    config = config_of(golden);
    EXPECT_EQ(gguf_refusal(config), "");
    config.head_dim *= 2;
    EXPECT_NE(gguf_refusal(config).find("it reads no head_dim there"), std::string::npos) << golden;
  }
  config = config_of("gemma3");
  EXPECT_EQ(gguf_refusal(config), "");
  config.tied_head = false;
  EXPECT_NE(gguf_refusal(config).find("this head is another"), std::string::npos);
  config = config_of("gemma3"), config.attention_soft_cap = 50;
  EXPECT_NE(gguf_refusal(config).find("attn_logit_softcapping"), std::string::npos);
  config = config_of("gemma3"), config.local_rope->scaling = RopeScaling::linear;
  EXPECT_NE(gguf_refusal(config).find("layers with a window"), std::string::npos);
  config = config_of("gemma2"), config.attention_scale = 0, config.final_soft_cap = 0;
  EXPECT_NE(gguf_refusal(config).find("without soft caps"), std::string::npos);
  EXPECT_NO_THROW(hf_config_json(config));
  config = config_of("llama"), config.rope.scaling = RopeScaling::none;
  config.rope.frequency_divisors.assign(static_cast<size_t>(config.head_dim / 2), 1.5);  // nobody's
  EXPECT_THROW(hf_config_json(config), FormatError);
}

TEST(FamilyTable, SaysWhatLlamaCppIgnores) {
  const auto ignored = [](const char* golden, int64_t window, std::vector<bool> sliding) {
    auto config = load_weights({.path = (kGolden / golden).string(), .compute = "f32"}).model->config;
    config.sliding_window = window, config.sliding_layers = std::move(sliding);
    return gguf_ignored(config);
  };
  for (const auto* golden : {"llama", "qwen2", "qwen3", "phi3", "mixtral", "gemma2"})
    EXPECT_TRUE(ignored(golden, 0, {}).empty()) << golden;
  EXPECT_TRUE(ignored("gemma2", 8, {true, false}).empty());
  EXPECT_TRUE(ignored("qwen2", 8, {false, false}).empty());
  EXPECT_TRUE(ignored("phi3", 1 << 20, {}).empty());  // beyond the context
  for (const auto* golden : {"mixtral", "qwen2", "qwen3", "phi3"}) {
    const auto lines = ignored(golden, 8, {});
    ASSERT_EQ(lines.size(), 1u) << golden;
    EXPECT_NE(lines[0].find("from token 9 of a text on"), std::string::npos) << lines[0];
  }
  auto yarn = load_weights({.path = (kGolden / "llama").string(), .compute = "f32"}).model->config;
  yarn.rope = RopeConfig();
  yarn.rope.scaling = RopeScaling::yarn, yarn.rope.factor = 4, yarn.rope.original_context = 64;
  EXPECT_TRUE(gguf_ignored(yarn).empty());
  yarn.rope.beta_fast = 16;
  ASSERT_EQ(gguf_ignored(yarn).size(), 1u);
  EXPECT_NE(gguf_ignored(yarn)[0].find("--yarn-beta-fast 16 --yarn-beta-slow 1"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Golden, Families, testing::ValuesIn(golden_folders()),
                         [](const auto& test) { return test.param; });

TEST(FamilyTable, HasAGoldenModelOfEveryFamily) {
  std::set<std::string> covered;
  for (const auto& golden : golden_folders())
    covered.insert(
        load_weights({.path = (kGolden / golden).string(), .compute = "f32"}).model->config.family);
  for (const auto& family : families())
    EXPECT_TRUE(covered.count(family.name)) << family.name << " has no folder in tests/golden/models";
}

}  // namespace
}  // namespace retort
