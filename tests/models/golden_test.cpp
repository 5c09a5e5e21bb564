// Every family against transformers in fp32 on tiny random weights (tools/golden/models.py).
#include <gtest/gtest.h>

#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"
#include "base/hash.h"
#include "data/temporary_folder.h"  // tests/data
#include "formats/golden_file.h"    // tests/formats
#include "models/differing_config.h"
#include "models/experts.h"
#include "models/model.h"
#include "models/read_config.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {
namespace {

std::filesystem::path golden(const std::string& family) {
  return std::filesystem::path(source_dir()) / "tests/golden/models" / family;
}

// Makes every weight an fp32 leaf, by checkpoint name.
std::map<std::string, Tensor> train_all(Model& model) {
  std::map<std::string, Tensor> leaves;
  const auto leaf = [&](const Weight& weight) {
    return dense_weight(widen(weight, at::kFloat).clone().requires_grad_());
  };
  for (auto* linear : model.linears()) {
    if (chooses_only(linear->place.role)) continue;
    linear->weight = leaf(linear->weight);
    leaves[linear->name + ".weight"] = linear->weight.dense;
  }
  for (auto& [name, tensor, place] : model.vectors())
    if (!chooses_only(place.role)) leaves[name] = tensor->requires_grad_();
  leaves["model.embed_tokens.weight"] = (model.embedding.weight = leaf(model.embedding.weight)).dense;
  if (model.config.tied_head) model.head.linear.weight = model.embedding.weight;
  else leaves["lm_head.weight"] = (model.head.linear.weight = leaf(model.head.linear.weight)).dense;
  return leaves;
}

Forest separate_rows(const std::vector<std::vector<int32_t>>& rows) {
  Forest forest;
  for (const auto& row : rows) {
    const auto begin = static_cast<int32_t>(forest.size());
    forest.add_segment(row);
    for (size_t i = 1; i < row.size(); ++i)
      forest.targets.push_back({begin + static_cast<int32_t>(i) - 1, row[i], 1, 0});
  }
  return forest;
}

// An expert that no token of the batch goes to has no place in the graph: its gradient is zero.
std::vector<Tensor> gradients_of(const Tensor& loss, const std::vector<Tensor>& inputs) {
  auto gradients = torch::autograd::grad({loss}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(inputs[i]);
  return gradients;
}

class Golden : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    loaded = load_weights({.path = golden(GetParam()).string()});
    record = read_json(golden(GetParam()) / "golden.json");
    reference = open_safetensors(golden(GetParam()) / "golden.safetensors");
  }
  LoadedModel loaded;
  Json record;
  WeightFile reference;
};

// Whose norms stand in front of its parts, hands on that nobody reads what leaves it; another needs the
// value.
TEST_P(Golden, ALayersLastProductIsLeftOutWhereNoNormFollowsIt) {
  const auto& model = *loaded.model;
  const auto forest = separate_rows(record["rows"].get<std::vector<std::vector<int32_t>>>());
  auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  const auto x = model.embed(pass);
  const auto whole = model.layer(0, x, pass);
  pass.layer_result = Wanted::gradients;
  const auto name = std::string(model.config.family);
  const bool behind =
      name.starts_with("gemma2") || name.starts_with("gemma3") || name.starts_with("olmo") || name == "glm4";
  EXPECT_EQ(model.layer(0, x, pass).equal(whole), behind) << name;
}

TEST_P(Golden, LogitsLossAndGradientsEqualTransformers) {
  auto& model = *loaded.model;
  const auto leaves = train_all(model);
  const auto rows = record["rows"].get<std::vector<std::vector<int32_t>>>();
  const auto forest = separate_rows(rows);
  for (const bool recompute : {false, true}) {
    auto pass = make_pass(forest, at::kFloat);
    pass.recompute = recompute;
    const auto hidden = model.hidden(pass);
    for (size_t i = 0; i < rows.size(); ++i) {
      std::vector<int32_t> last;
      for (int32_t back = 4; back > 0; --back) last.push_back(forest.segments[i].end - back);
      EXPECT_LT(distance(logits(hidden, last, model.head, pass),
                         tensor_of(reference, "logits." + std::to_string(i))),
                1e-5)
          << "row " << i;
    }
    const auto loss = cross_entropy(hidden, forest.targets, model.head, pass);
    EXPECT_NEAR(loss.nats.item<double>() / record["loss"].get<double>(), 1, 1e-5);
    EXPECT_EQ(loss.weight, 49);
    std::vector<std::string> names;
    std::vector<Tensor> inputs;
    for (const auto& [name, leaf] : leaves) names.push_back(name), inputs.push_back(leaf);
    const auto gradients = gradients_of(loss.nats, inputs);
    int compared = 0;
    for (size_t i = 0; i < names.size(); ++i) {
      if (!reference.find("grad." + names[i])) continue;
      EXPECT_LT(distance(gradients[i], tensor_of(reference, "grad." + names[i])), 2e-5)
          << names[i] << (recompute ? " recomputed" : "");
      ++compared;
    }
    int expected = 0;
    for (const auto& tensor : reference.tensors) expected += tensor.name.starts_with("grad.");
    EXPECT_EQ(compared, expected);
  }
}

TEST_P(Golden, LogitsFarFromTheStartEqualTransformers) {
  Forest forest;
  forest.add_segment(record["long_row"].get<std::vector<int32_t>>());
  const auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  const auto ours = logits(loaded.model->hidden(pass), record["positions"].get<std::vector<int32_t>>(),
                           loaded.model->head, pass);
  const auto theirs = tensor_of(reference, "positions.logits");
  // Position 500 turns by angles of up to 500 rad, known to 3e-5 in fp32.
  for (int64_t i = 0; i < 4; ++i)
    EXPECT_LT(distance(ours[i], theirs[i]), i < 3 ? 1e-5 : 1e-4)
        << "position " << record["positions"][static_cast<size_t>(i)];
}

// A forest with shared prefixes at two depths gives the loss and the gradients of its rows one by one.
TEST_P(Golden, ForestEqualsSeparateRows) {
  auto& model = *loaded.model;
  const auto leaves = train_all(model);
  std::vector<Tensor> inputs;
  for (const auto& [name, leaf] : leaves) inputs.push_back(leaf);
  const auto rows = record["rows"].get<std::vector<std::vector<int32_t>>>();
  std::vector<std::vector<int32_t>> texts;
  for (int i = 0; i < 5;
       ++i) {  // 30 shared tokens, then 13 more for three of them, then a tail of 2 to 6 tokens of each
    auto text = rows[2];
    if (i < 3) text.insert(text.end(), rows[0].begin(), rows[0].end());
    for (int j = 0; j < 2 + i; ++j) text.push_back(rows[1][static_cast<size_t>(j)] % (90 - i) + 3);
    texts.push_back(text);
  }
  std::vector<Sample> samples;
  for (const auto& text : texts) samples.push_back({text, std::vector<float>(text.size(), 0.5f), ""});
  const auto forests = build_forests(samples, 1000, 2);
  ASSERT_EQ(forests.size(), 1u);
  ASSERT_LT(forests[0].size(), 80);  // 5 rows of 33 to 48 tokens
  const auto run = [&](const Forest& forest, float weight) {
    const auto pass = make_pass(forest, at::kFloat);
    auto targets = forest.targets;
    for (auto& target : targets) target.weight *= weight;
    const auto loss = cross_entropy(model.hidden(pass), targets, model.head, pass);
    auto gradients = gradients_of(loss.nats, inputs);
    return std::pair(loss, gradients);
  };
  const auto [shared, shared_gradients] = run(forests[0], 1);
  const auto [plain, plain_gradients] = run(separate_rows(texts), 0.5f);
  EXPECT_NEAR(shared.nats.item<double>() / plain.nats.item<double>(), 1, 1e-5);
  EXPECT_EQ(shared.weight, plain.weight);
  for (size_t i = 0; i < inputs.size(); ++i)
    EXPECT_LT(distance(shared_gradients[i], plain_gradients[i]), 3e-5);
}

TEST_P(Golden, TokenByTokenWithACacheEqualsOnePass) {
  auto& model = *loaded.model;
  const auto row = record["rows"][2].get<std::vector<int32_t>>();
  Forest forest;
  forest.add_segment(row);
  const at::NoGradGuard no_graph;
  const auto pass = make_pass(forest, at::kFloat);
  const std::vector<int32_t> last{29};
  const auto whole = logits(model.hidden(pass), last, model.head, pass);
  auto cache = larger_cache({}, 0, 64, {cache_shape(model.config), KvType::f32, at::kFloat});
  Tensor stepped;
  for (int32_t done = 0; done < 30;) {  // ten tokens at once, then one by one; cache rows start at 5
    const int32_t count = done == 0 ? 10 : 1;
    Pass step;
    step.cache = &cache;
    step.tokens = at::tensor(std::vector<int64_t>(row.begin() + done, row.begin() + done + count));
    step.positions = at::arange(done, done + count);
    for (int32_t i = 0; i < count; ++i) step.cache_rows.push_back(5 + done + i);
    step.blocks = {{0, count, {{5, 5 + done + count}}}};
    done += count;
    const std::vector<int32_t> end{count - 1};
    stepped = logits(model.hidden(step), end, model.head, step);
  }
  EXPECT_LT(distance(stepped, whole), 1e-5);
}

// The end of the last layer on the asked rows alone: the same hidden states and gradients as on all of them.
TEST_P(Golden, TheLastLayerEndsOnTheAskedRowsAlone) {
  auto& model = *loaded.model;
  const auto leaves = train_all(model);
  auto forest = separate_rows(record["rows"].get<std::vector<std::vector<int32_t>>>());
  std::erase_if(forest.targets, [](const Target& target) { return target.row % 3 != 1; });
  const auto twice = forest.targets[2];
  forest.targets.push_back({twice.row, twice.label + 1, 0.5f, 0});  // a row with two labels
  const auto asked = asked_rows(forest);
  std::vector<Tensor> wanted;
  for (const auto& [name, leaf] : leaves) wanted.push_back(leaf);
  for (const bool recompute : {false, true}) {
    auto pass = make_pass(forest, at::kFloat);
    pass.recompute = recompute;
    const auto whole = model.hidden(pass);
    const auto all = cross_entropy(whole, forest.targets, model.head, pass);
    const auto expected = gradients_of(all.nats, wanted);
    ASSERT_TRUE(ask_for(pass, asked.rows));
    const auto some = model.hidden(pass);
    ASSERT_EQ(some.size(0), static_cast<int64_t>(asked.rows.size()));
    EXPECT_LT(distance(some, whole.index_select(0, pass.rows)), 1e-6);
    const auto loss = cross_entropy(some, asked.targets, model.head, pass);
    EXPECT_NEAR(loss.nats.item<double>() / all.nats.item<double>(), 1, 1e-6);
    EXPECT_EQ(loss.weight, all.weight);
    const auto gradients = gradients_of(loss.nats, wanted);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_LT(distance(gradients[i], expected[i]), 1e-5);
  }
}

TEST_P(Golden, NoRowMayBeAskedFor) {  // a pass that only fills a cache
  const auto forest = separate_rows(record["rows"].get<std::vector<std::vector<int32_t>>>());
  auto pass = make_pass(forest, at::kFloat);
  ASSERT_TRUE(ask_for(pass, {}));
  const at::NoGradGuard no_graph;
  EXPECT_EQ(loaded.model->hidden(pass).size(0), 0);
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
                                         "qwen3_moe", "qwen3_moe_plain", "qwen3_moe_dense", "mixtral",
                                         "llama_bias", "phi4_mini", "smollm3", "granite", "olmo2", "olmo3",
                                         "qwen3_bias", "gemma3_bias", "olmo3_bias", "glm4", "seed_oss",
                                         "ministral3", "deepseek_v3", "deepseek_v3_plain", "deepseek_v32",
                                         "deepseek_v32_sparse", "deepseek_v2", "deepseek_v2_groups",
                                         "glm4_moe_lite", "glm4_moe_lite_mixed", "kimi_k2", "moonlight",
                                         "mistral4", "mistral4_groups"),
                         [](const auto& family) { return std::string(family.param); });

// LoRA on every expert of the last layer: gradients of A, B and the router by the chain rule from
// transformers' gradient of W + s B A.
void expect_lora_equals_the_chain_rule(const std::string& family, size_t layers) {
  auto loaded = load_weights({.path = golden(family).string()});
  auto& model = *loaded.model;
  const auto record = read_json(golden(family) / "golden.json");
  const auto reference = open_safetensors(golden(family) / "golden.safetensors");
  std::vector<std::string> names;
  std::vector<Tensor> inputs;
  const auto want = [&](const std::string& name, const Tensor& leaf) {
    names.push_back("lora_grad." + name), inputs.push_back(leaf);
  };
  for (auto* linear : model.linears()) {
    if (!reference.find("lora." + linear->name + ".a")) continue;
    linear->adapter = LowRank{tensor_of(reference, "lora." + linear->name + ".a").requires_grad_(),
                              tensor_of(reference, "lora." + linear->name + ".b").requires_grad_(),
                              {},
                              0.5,
                              0};
    want(linear->name + ".a", linear->adapter->a), want(linear->name + ".b", linear->adapter->b);
  }
  ASSERT_EQ(inputs.size(), 2 * layers);
  for (auto& [name, tensor, place] : model.vectors())
    if (place.role == Role::router && reference.find("lora_grad." + name))
      want(name, tensor->requires_grad_());
  const auto forest = separate_rows(record["rows"].get<std::vector<std::vector<int32_t>>>());
  for (const bool recompute : {false, true}) {
    auto pass = make_pass(forest, at::kFloat);
    pass.recompute = recompute;
    const auto loss = cross_entropy(model.hidden(pass), forest.targets, model.head, pass);
    const auto gradients = gradients_of(loss.nats, inputs);
    for (size_t i = 0; i < names.size(); ++i)
      EXPECT_LT(distance(gradients[i], tensor_of(reference, names[i])), 2e-5) << names[i];
  }
}

TEST(SparseGolden, LoraOnExpertsEqualsTheChainRule) { expect_lora_equals_the_chain_rule("qwen3_moe", 6 * 3); }

// Of latent attention four or five layers, of the experts and the shared one three each.
TEST(SparseGolden, LoraOnADeepseekEqualsTheChainRule) {
  expect_lora_equals_the_chain_rule("deepseek_v3", 5 + 3 * 9);
  expect_lora_equals_the_chain_rule("deepseek_v3_plain", 4 + 3 * 7);
  expect_lora_equals_the_chain_rule("deepseek_v32", 5 + 3 * 7);
  expect_lora_equals_the_chain_rule("deepseek_v32_sparse", 5 + 3 * 9);
  expect_lora_equals_the_chain_rule("deepseek_v2", 4 + 3 * 9);
  expect_lora_equals_the_chain_rule("deepseek_v2_groups", 5 + 3 * 13);
  expect_lora_equals_the_chain_rule("glm4_moe_lite", 5 + 3 * 9);
  expect_lora_equals_the_chain_rule("glm4_moe_lite_mixed", 4 + 3 * 7);
  expect_lora_equals_the_chain_rule("kimi_k2", 5 + 3 * 9);
  expect_lora_equals_the_chain_rule("moonlight", 4 + 3 * 9);
  expect_lora_equals_the_chain_rule("mistral4", 5 + 3 * 9);
  expect_lora_equals_the_chain_rule("mistral4_groups", 4 + 3 * 13);
}

TEST(DeepseekGolden, ConfigurationsAreWrittenAsTheyWereRead) {
  for (const auto* family : {"deepseek_v3", "deepseek_v3_plain", "deepseek_v32", "deepseek_v32_sparse",
                             "deepseek_v2", "deepseek_v2_groups", "glm4_moe_lite", "glm4_moe_lite_mixed",
                             "kimi_k2", "moonlight", "mistral4", "mistral4_groups"}) {
    const auto config = load_weights({.path = golden(family).string()}).model->config;
    const auto written = hf_config_json(config);
    const auto again = config_from_hf(Json::parse(written.dump()), "config.json", true);
    EXPECT_EQ(what_reads_back_otherwise(config, again), std::nullopt) << family;
    EXPECT_EQ(hf_config_json(again), written) << family;
    const auto original = read_json(golden(family) / "config.json");
    for (const auto& [key, value] : written.items()) {
      const bool own = key == "architectures" || key == "rope_theta" || key == "rope_scaling" ||
                       key == "moe_layer_freq" || key == "num_nextn_predict_layers" ||
                       key == "rope_parameters";
      // Words and numbers that the class of transformers does not write.
      const bool more = key == "scoring_func" || key == "topk_method" || key == "first_k_dense_replace" ||
                        key == "head_dim" || value.is_null();
      if (own || (more && !original.contains(key))) continue;
      if (key == "model_type" && family == std::string("kimi_k2")) {
        EXPECT_EQ(value, "deepseek_v3");  // for which transformers has a class
        continue;
      }
      ASSERT_TRUE(original.contains(key)) << key;
      EXPECT_EQ(Json::parse(value.dump()), original[key]) << key;
    }
  }
}

TEST(DeepseekGolden, RefusesWhatItDoesNotCompute) {
  const auto refusal = [](const std::string& family, const std::string& key,
                          const Json& value) -> std::string {
    auto json = read_json(golden(family) / "config.json");
    json[key] = value;
    try {
      config_from_hf(json, "config.json", true);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  const auto says = [&](const std::string& key, const Json& value, const std::string& words) {
    EXPECT_NE(refusal("deepseek_v32", key, value).find(key + ": " + words), std::string::npos)
        << refusal("deepseek_v32", key, value);
  };
  says("scoring_func", "softmax", "found 'softmax', which is not computed here; expected 'sigmoid'");
  says("topk_method", "greedy", "found 'greedy'");
  says("moe_layer_freq", 2, "layers in turn dense and sparse");
  says("n_group", 4, "6 experts do not divide into 4 groups");
  says("topk_group", 3, "is 3, of 2 groups");
  says("num_experts_per_tok", 4, "is 4, of 3 experts in topk_group groups");
  says("num_key_value_heads", 2, "is 2; latent attention has a key and a value for each of 4 heads");
  says("q_lora_rank", nullptr, "the indexer reads it");
  says("mlp_layer_types", Json::array({"sparse", "sparse", "sparse"}), "expected 3 words, the first 'dense'");
  says("layer_types", Json::array({"full_attention"}), "expected 3 words, the first 'indexed_attention'");
  const auto of = [&](const std::string& family, const std::string& key, const Json& value,
                      const std::string& words) {
    const auto found = refusal(family, key, value);
    EXPECT_NE(found.find(key + ": " + words), std::string::npos) << family << " " << found;
  };
  of("deepseek_v2", "scoring_func", "sigmoid", "found 'sigmoid'");
  of("deepseek_v2", "topk_method", "noaux_tc", "found 'noaux_tc', which is not computed here");
  of("deepseek_v2", "norm_topk_prob", true, "is true: transformers' class of this family takes no notice");
  of("deepseek_v2", "rope_interleave", false, "expected true");
  of("deepseek_v2", "mlp_bias", true, "a deepseek_v2 has no biases");
  of("deepseek_v2", "num_experts_per_tok", nullptr, "missing or 0");
  of("deepseek_v2_groups", "n_group", nullptr, "missing or 0");
  of("deepseek_v2_groups", "n_group", 5, "12 experts do not divide into 5 groups");
  of("glm4_moe_lite", "topk_method", "greedy", "found 'greedy'");
  of("glm4_moe_lite", "first_k_dense_replace", 2, "is 2, and transformers reads mlp_layer_types alone");
  of("glm4_moe_lite_mixed", "first_k_dense_replace", 1, "is 1, and transformers reads mlp_layer_types alone");
  of("glm4_moe_lite", "mlp_layer_types", Json::array({"dense"}), "expected a list of 3 words");
  of("glm4_moe_lite", "mlp_layer_types", Json::array({"dense", "moe", "sparse"}), "expected only 'dense'");
  of("glm4_moe_lite", "partial_rotary_factor", 0.5, "a glm4_moe_lite rotates whole heads");
  of("kimi_k2", "scoring_func", "softmax", "found 'softmax'");
  of("mistral4", "scoring_func", "sigmoid", "found 'sigmoid'");
  of("mistral4", "topk_method", "noaux_tc", "found 'noaux_tc'");
  of("mistral4_groups", "topk_method", "greedy", "is greedy, and n_group says");
  const auto turned = [&](const Json& rope) { return refusal("mistral4", "rope_parameters", rope); };
  EXPECT_NE(turned({{"rope_type", "default"}, {"rope_theta", 1e4}}).find("expected rope_type yarn"),
            std::string::npos);
  EXPECT_NE(turned({{"rope_type", "yarn"}, {"factor", 4.0}, {"partial_rotary_factor", 0.5}})
                .find("0.5 of a head of 20 is not qk_rope_head_dim, 8"),
            std::string::npos);
  EXPECT_NE(turned({{"rope_type", "linear"}, {"factor", 4.0}, {"mscale_all_dim", 1.0}})
                .find("mscale_all_dim: is known with yarn only"),
            std::string::npos);
}

// What a cache keeps of a token: the latent and the rotated key, once for all heads (1,152 bytes in bf16
// where they are 512 and 64 wide), held in fp32, bf16 or 8 bits; with an adapter on the matrix that is
// absorbed.
TEST(DeepseekGolden, TheCompressedCacheGivesThePlainFormsNumbers) {
  ModelConfig real;
  real.layers = 61, real.latent = LatentConfig{1536, 512, 128, 64, 128};
  const auto of_real = larger_cache({}, 0, 3, {cache_shape(real), KvType::bf16, at::kFloat});
  EXPECT_EQ(of_real.keys.at(60).nbytes(), 3u * 1152);
  EXPECT_TRUE(of_real.values.empty());
  for (const auto* family :
       {"deepseek_v3", "deepseek_v3_plain", "deepseek_v32", "deepseek_v2", "glm4_moe_lite_mixed", "mistral4"})
    for (const bool dora : {false, true}) {
      auto loaded = load_weights({.path = golden(family).string()});
      auto& model = *loaded.model;
      for (auto* linear : model.linears())
        if (linear->place.role == Role::kv_b) {
          linear->adapter = LowRank{0.3 * random({2, linear->weight.columns}, 1),
                                    0.3 * random({linear->weight.rows, 2}, 2),
                                    {},
                                    0.5,
                                    0};
          if (dora) linear->adapter->magnitude = 1 + 0.1 * random({linear->weight.rows}, 3);
        }
      Forest forest;
      forest.add_segment(read_json(golden(family) / "golden.json")["rows"][2].get<std::vector<int32_t>>());
      const at::NoGradGuard no_graph;
      // Rounded keys choose other experts: the first layer, which is dense, tells how far off attention is.
      for (const auto& [type, near] :
           {std::pair{KvType::f32, 1e-5}, {KvType::bf16, 2e-2}, {KvType::int8, 5e-2}}) {
        auto pass = make_pass(forest, at::kFloat);
        const auto plain = model.hidden(pass), first = model.layer(0, model.embed(pass), pass);
        auto cache = larger_cache({}, 0, 30, {cache_shape(model.config), type, at::kFloat});
        pass.cache = &cache;
        for (int32_t i = 0; i < 30; ++i) pass.cache_rows.push_back(i);
        if (type == KvType::f32) { EXPECT_LT(distance(model.hidden(pass), plain), near) << family << dora; }
        EXPECT_LT(distance(model.layer(0, model.embed(pass), pass), first), near) << family << dora;
      }
    }
}

// Within index_topk tokens nothing is left out: the same bits whatever the indexer would say. A token more,
// and its numbers are others.
TEST(DeepseekGolden, WithinTheChosenNumberAttentionIsDense) {
  auto loaded = load_weights({.path = golden("deepseek_v32_sparse").string()});
  auto& model = *loaded.model;
  const auto top = model.config.indexer->top;
  EXPECT_EQ(model.config.context, 1024);
  const auto states = [&](int64_t length) {
    Forest forest;
    const auto row = read_json(golden("deepseek_v32_sparse") / "golden.json")["long_row"];
    forest.add_segment({row.begin(), row.begin() + length});
    const at::NoGradGuard no_graph;
    return model.hidden(make_pass(forest, at::kFloat));
  };
  const auto within = states(top), beyond = states(2 * top);
  for (auto* linear : model.linears())
    if (linear->place.role == Role::index_weights)
      linear->weight = dense_weight(-widen(linear->weight, at::kFloat));
  EXPECT_TRUE(at::equal(states(top), within));
  const auto others = states(2 * top);
  EXPECT_LT(distance(others.narrow(0, 0, top), beyond.narrow(0, 0, top)), 1e-6);
  EXPECT_GT(distance(others[top], beyond[top]), 1e-3);
}

// Dropout in front of kv_b_proj's adapter needs the heads' keys one by one; with none dropped the numbers and
// the gradients are those of the form on the latents.
TEST(DeepseekGolden, SparseAttentionIsTheSameInBothForms) {
  auto loaded = load_weights({.path = golden("deepseek_v32_sparse").string()});
  auto& model = *loaded.model;
  std::vector<Tensor> leaves;
  for (auto* linear : model.linears()) {
    if (linear->place.role != Role::kv_b && linear->place.role != Role::q_b) continue;
    linear->adapter = LowRank{
        0.3 * random({2, linear->weight.columns}, 1), 0.3 * random({linear->weight.rows, 2}, 2), {}, 0.5, 0};
    for (auto* leaf : {&linear->adapter->a, &linear->adapter->b}) leaves.push_back(leaf->requires_grad_());
  }
  Forest forest;
  forest.add_segment(
      read_json(golden("deepseek_v32_sparse") / "golden.json")["rows"][2].get<std::vector<int32_t>>());
  auto pass = make_pass(forest, at::kFloat);
  const auto weights = random({30, model.config.hidden}, 3);
  const auto run = [&] {
    const auto hidden = model.hidden(pass);
    return std::pair(hidden.detach(), gradients_of((hidden * weights).sum(), leaves));
  };
  const auto [latents, latent_gradients] = run();
  pass.before_attend = [](const AttendRule&, const Tensor& q, const Tensor& k) {
    EXPECT_EQ(k.sizes(), q.sizes());
  };
  const auto [heads, head_gradients] = run();
  EXPECT_FALSE(at::equal(latents, heads));  // they are two computations
  EXPECT_LT(distance(heads, latents), 1e-5);
  for (size_t i = 0; i < leaves.size(); ++i)
    EXPECT_LT(distance(head_gradients[i], latent_gradients[i]), 2e-5) << i;
}

TEST(SparseGolden, AnExpertSeesItsShareOfTheTokens) {  // 2 of 4 in mixtral, 2 of 6 in qwen3_moe
  for (const auto& [family, share] :
       std::map<std::string, double>{{"llama", 1}, {"mixtral", 0.5}, {"qwen3_moe", 1.0 / 3}}) {
    const auto loaded = load_weights({.path = golden(family).string()});
    for (const auto* linear : loaded.model->linears())
      EXPECT_EQ(token_share(loaded.model->config, linear->place),
                linear->name.find(".experts.") == std::string::npos ? 1 : share)
          << linear->name;
  }
}

TEST(SparseGolden, ConfigurationsAreWrittenAsTheyWereRead) {
  for (const auto* family : {"qwen3_moe", "qwen3_moe_plain", "mixtral"}) {
    const auto config = load_weights({.path = golden(family).string()}).model->config;
    const auto again =
        config_from_hf(Json::parse(hf_config_json(config).dump()), "config.json", !config.tied_head);
    EXPECT_EQ(again.family, config.family);
    EXPECT_EQ(again.experts, config.experts);
    EXPECT_EQ(again.experts_per_token, config.experts_per_token);
    EXPECT_EQ(again.expert_intermediate, config.expert_intermediate);
    EXPECT_EQ(again.renormalise, config.renormalise);
    if (config.renormalise) EXPECT_FALSE(gguf_metadata(config).empty());
    else EXPECT_THROW(gguf_metadata(config), FormatError);  // llama.cpp always divides by the sum
  }
}

// Of four layers the second and the fourth are sparse by their step, the second is named as dense.
TEST(SparseGolden, DenseLayersAndTheWindowAreReadAsTransformersDoes) {
  const auto loaded = load_weights({.path = golden("qwen3_moe_dense").string()});
  const auto& config = loaded.model->config;
  EXPECT_EQ(config.dense_layers, (std::vector<bool>{true, true, true, false}));
  EXPECT_EQ(config.sliding_window, 8);
  EXPECT_TRUE(config.sliding_layers.empty());  // in all of them, whatever max_window_layers says
  const auto written = Json::parse(hf_config_json(config).dump());
  EXPECT_EQ(written["mlp_only_layers"], Json({0, 1, 2}));
  EXPECT_EQ(what_reads_back_otherwise(config, config_from_hf(written, "config.json", false)), std::nullopt);
  EXPECT_NE(gguf_refusal(config).find("wants experts in every layer of its architecture qwen3moe; layer 0"),
            std::string::npos);
  auto all_sparse = config;
  all_sparse.dense_layers.clear();
  EXPECT_EQ(gguf_refusal(all_sparse), "");
  EXPECT_NE(what_reads_back_otherwise(config, all_sparse).value_or("").find("experts of layer 0"),
            std::string::npos);
}

TEST(SparseGolden, RefusesNumbersOfExpertsThatCannotBe) {
  const auto refusal = [](const std::string& key, const Json& value) -> std::string {
    auto json = read_json(golden("qwen3_moe") / "config.json");
    json[key] = value;
    try {
      config_from_hf(json, "config.json", false);
    } catch (const FormatError& error) { return error.what(); }
    return "";
  };
  EXPECT_NE(refusal("decoder_sparse_step", 0).find("decoder_sparse_step"), std::string::npos);
  EXPECT_NE(refusal("num_experts_per_tok", 7).find("is 7, of 6 experts"), std::string::npos);
  EXPECT_NE(refusal("num_local_experts", 5000).find("more than 4096 experts"), std::string::npos);
}

// Of one file its own hash, of shards that of what sha256sum says of them.
TEST(LoadedModel, NamesTheHashOfEveryWeightFile) {
  const auto plain = load_weights({.path = golden("llama").string(), .compute = "f32"});
  EXPECT_EQ(plain.sha256.get(), sha256_file((golden("llama") / "model.safetensors").string()));
  const TemporaryFolder folder;
  const auto file = open_safetensors_folder(golden("llama"));
  std::vector<TensorSource> sources;
  for (const auto& tensor : file.tensors)
    sources.push_back(tensor_source(tensor.name, tensor.type, tensor.shape, tensor.data));
  write_safetensors_folder(folder / "model", sources, 20000);
  std::filesystem::copy_file(golden("llama") / "config.json", folder / "model/config.json");
  std::map<std::string, std::string> hashes;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "model"))
    if (entry.path().extension() == ".safetensors")
      hashes[entry.path().filename().string()] = sha256_file(entry.path().string());
  EXPECT_GT(hashes.size(), 1u);
  std::string lines;
  for (const auto& [name, hash] : hashes) lines += hash + "  " + name + "\n";
  EXPECT_EQ(load_weights({.path = folder / "model", .compute = "f32"}).sha256.get(), sha256(lines));
}

}  // namespace
}  // namespace retort
