#include "distill/prune.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"

namespace retort {
namespace {

LoadedModel tiny(const std::string& family = "llama") {
  auto loaded = load_weights({.path = (std::filesystem::path(RETORT_SOURCE_DIR) / "tests/golden/models" / family).string(), .weights = "f32"});
  return loaded;
}
std::vector<Sample> some_samples() {
  const Draws draws(4, "samples");
  std::vector<Sample> samples(6);
  for (size_t s = 0; s < samples.size(); ++s)
    for (uint64_t i = 0; i < 20; ++i) samples[s].tokens.push_back(static_cast<int32_t>(3 + draws.below(s * 100 + i, 90))), samples[s].weights.push_back(1);
  return samples;
}
Tensor hidden_of(const Model& model) {
  const at::NoGradGuard no_graph;
  return model.hidden(make_pass(build_forests(some_samples(), 1000)[0], at::kFloat));
}
Pruned cut(LoadedModel& source, const PruneSpec& spec) { return prune(source, at::kFloat, spec, some_samples(), 1); }
std::string refusal(LoadedModel& source, const PruneSpec& spec) {
  try {
    cut(source, spec);
  } catch (const RecipeError& error) {
    return error.what();
  }
  return "";
}
double distance(const Tensor& a, const Tensor& b) { return ((a - b).abs().max() / b.abs().max()).item<double>(); }

TEST(Prune, KeptLayersAreTheSourcesOwn) {
  for (const auto* family : {"llama", "gemma3", "phi3"}) {
    auto source = tiny(family);
    const auto pruned = cut(source, {.keep_layers = {1}});
    EXPECT_EQ(pruned.model.model->config.layers, 1);
    EXPECT_NE(pruned.model.sha256, source.sha256);
    const at::NoGradGuard no_graph;
    const auto forest = build_forests(some_samples(), 1000)[0];
    const auto pass = make_pass(forest, at::kFloat);
    const auto expected = source.model->finish(source.model->layer(1, source.model->embed(pass), pass), pass);
    EXPECT_TRUE(at::equal(pruned.model.model->hidden(pass), expected)) << family;
  }
}

TEST(Prune, EvenAndInfluenceChooseLayers) {
  auto source = tiny();
  EXPECT_EQ(cut(source, {.layers = 1}).layers, (std::vector<int64_t>{0}));
  // Layer 0 made to do nothing: what it writes is zero.
  for (auto* linear : source.model->linears())
    if (linear->name.starts_with("model.layers.0.") && (linear->name.ends_with("o_proj") || linear->name.ends_with("down_proj"))) linear->weight = dense_weight(at::zeros_like(linear->weight.dense));
  const auto pruned = cut(source, {.layers = 1, .rank_layers = "influence"});
  EXPECT_EQ(pruned.layers, (std::vector<int64_t>{1}));
  EXPECT_LT(distance(hidden_of(*pruned.model.model), hidden_of(*source.model)), 1e-5);   // nothing was lost
}

// Channels and heads that carry nothing are the ones that go.
TEST(Prune, WidthsLoseWhatCarriesNothing) {
  auto source = tiny();
  auto& model = *source.model;
  const auto& config = model.config;
  const auto zero_rows = [](Linear& linear, int64_t first, int64_t count) {
    auto w = linear.weight.dense.clone();
    w.narrow(0, first, count).zero_();
    linear.weight = dense_weight(w);
  };
  for (auto* linear : model.linears()) {
    if (linear->name.ends_with("up_proj")) zero_rows(*linear, 5, 8);
    if (linear->name.ends_with("v_proj")) zero_rows(*linear, 0, config.head_dim);   // group 0
  }
  const auto whole = hidden_of(model);
  const auto pruned = cut(source, {.intermediate = config.intermediate - 8, .kv_heads = config.kv_heads - 1});
  EXPECT_EQ(pruned.model.model->config.heads, config.heads / config.kv_heads * (config.kv_heads - 1));
  EXPECT_LT(distance(hidden_of(*pruned.model.model), whole), 1e-5);
}

// An embedding channel that is zero everywhere and that nothing writes can go; the mean square of the norms changes with the
// number of channels, by one factor that the next norm undoes.
TEST(Prune, EmbeddingChannelsAreCutEverywhere) {
  auto source = tiny("qwen3");
  auto& model = *source.model;
  const auto channel = 3;
  const auto zero = [&](Weight& weight, int64_t dimension) {
    auto w = widen(weight, at::kFloat).clone();
    w.narrow(dimension, channel, 1).zero_();
    weight = dense_weight(w);
  };
  zero(model.embedding, 1);
  for (auto* linear : model.linears())
    if (linear->name.ends_with("o_proj") || linear->name.ends_with("down_proj")) zero(linear->weight, 0);
  if (model.config.tied_head) model.head.linear.weight = model.embedding;
  const auto pruned = cut(source, {.hidden = model.config.hidden - 1});
  const auto& small = *pruned.model.model;
  EXPECT_EQ(small.config.hidden, model.config.hidden - 1);
  EXPECT_EQ(small.embedding.columns, model.config.hidden - 1);
  for (const auto& [name, tensor] : pruned.model.model->vectors())
    EXPECT_TRUE(!name.ends_with("layernorm.weight") || tensor->size(0) == model.config.hidden - 1) << name;
  // The first q_proj's row 0 without that column.
  const auto row = model.linears()[0]->weight.dense[0];
  const auto expected = at::cat({row.narrow(0, 0, channel), row.narrow(0, channel + 1, row.size(0) - channel - 1)});
  EXPECT_TRUE(at::equal(pruned.model.model->linears()[0]->weight.dense[0], expected));
}

TEST(Prune, RefusesWhatCannotBeCut) {
  auto source = tiny();
  EXPECT_NE(refusal(source, {}).find("nothing is cut"), std::string::npos);
  EXPECT_EQ(refusal(source, {.layers = 3}), "prune.layers: 3 asked for, the model has 2");
  EXPECT_NE(refusal(source, {.keep_layers = {1, 1}}).find("rising"), std::string::npos);
  EXPECT_NE(refusal(source, {.layers = 1, .keep_layers = {0}}).find("not both"), std::string::npos);
  auto fused = tiny("phi3");
  EXPECT_NE(refusal(fused, {.intermediate = 8}).find("fused"), std::string::npos);
}

// A byte-pair tokenizer of a, b, c, d with merges; "abc" arises from "ab" + "c".
// Defined below: a to d, ab, cd, abc, abcd, dd, <|end|>.
GgufVocabulary small_vocabulary();

TEST(Prune, AnotherTokenizerStartsFromTheOldTokensOfItsText) {
  const auto old = tokenizer_from_gguf(small_vocabulary(), "old");
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  vocabulary.tokens = {"a", "b", "c", "d", "bc", "<|fin|>"};
  vocabulary.token_types = {1, 1, 1, 1, 1, 3};
  vocabulary.merges = {"b c"};
  vocabulary.eos = 5;
  const auto moved = transplant_tokenizer(*old, tokenizer_from_gguf(vocabulary, "other"));
  const std::vector<std::vector<int32_t>> expected = {{0}, {1}, {2}, {3}, {1, 2}, {9}};   // bc is b and c there; an end is an end
  EXPECT_EQ(moved.former, expected);
}

GgufVocabulary small_vocabulary() {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.pre = "gpt-2";
  vocabulary.tokens = {"a", "b", "c", "d", "ab", "cd", "abc", "abcd", "dd", "<|end|>"};
  vocabulary.token_types = {1, 1, 1, 1, 1, 1, 1, 1, 1, 3};
  vocabulary.merges = {"a b", "c d", "ab c", "ab cd", "d d"};
  vocabulary.eos = 9;
  return vocabulary;
}

TEST(TrimTokenizer, KeepsWhatTokensAreMergedFromAndCutsTextsAsBefore) {
  const auto tokenizer = tokenizer_from_gguf(small_vocabulary(), "test");
  std::vector<bool> used(10);
  used[6] = true;   // abc
  const auto trimmed = trim_tokenizer(*tokenizer, used);
  EXPECT_EQ(trimmed.former, (std::vector<int32_t>{0, 1, 2, 3, 4, 6, 9}));   // bytes, ab, abc, control
  EXPECT_EQ(trimmed.tokenizer->eos, 6);
  for (const auto* text : {"abc", "abcabc", "ab", "a"}) {
    std::vector<int32_t> back;
    for (const auto id : trimmed.tokenizer->encode(text)) back.push_back(trimmed.former[static_cast<size_t>(id)]);
    EXPECT_EQ(back, tokenizer->encode(text)) << text;
  }
  EXPECT_EQ(trimmed.tokenizer->decode(trimmed.tokenizer->encode("abcdd")), "abcdd");   // other texts too, in smaller pieces
}

TEST(Prune, VocabularyKeepsTheRowsOfItsTokens) {
  auto source = tiny();
  auto vocabulary = small_vocabulary();
  while (static_cast<int64_t>(vocabulary.tokens.size()) < source.model->config.vocabulary) {
    vocabulary.tokens.push_back("<" + std::to_string(vocabulary.tokens.size()) + ">");
    vocabulary.token_types.push_back(1);
  }
  source.tokenizer = tokenizer_from_gguf(vocabulary, "test");
  source.model->config.eos = {9};
  std::vector<Sample> samples(1);
  samples[0].tokens = {4, 6, 9}, samples[0].weights = {0, 1, 1};
  const auto pruned = prune(source, at::kFloat, {.vocabulary = true}, samples, 1);
  EXPECT_EQ(pruned.model.model->config.vocabulary, pruned.model.tokenizer->size());
  const auto before = source.model->embedding.dense, after = pruned.model.model->embedding.dense;
  const auto find = [&](const char* text) { return static_cast<int64_t>(*pruned.model.tokenizer->find(text)); };
  EXPECT_TRUE(at::equal(after[find("abc")], before[6]));
  EXPECT_TRUE(at::equal(after[find("<|end|>")], before[9]));
  EXPECT_EQ(pruned.model.model->config.eos, (std::vector<int32_t>{static_cast<int32_t>(find("<|end|>"))}));
  EXPECT_FALSE(pruned.model.tokenizer->find("dd"));
}

}  // namespace
}  // namespace retort
