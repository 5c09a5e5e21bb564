#include "student/prune.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "base/error.h"
#include "forest/random_samples.h"  // tests/forest
#include "formats/weight_file.h"
#include "student/expert_cut.h"
#include "where.h"  // tests

namespace retort {
namespace {

LoadedModel tiny(const std::string& family = "llama") {
  auto loaded =
      load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models" / family).string(),
                    .weights = "f32"});
  return loaded;
}
std::vector<Sample> some_samples() { return random_samples(Draws(4, "samples"), 6, 20); }
Tensor hidden_of(const Model& model) {
  const at::NoGradGuard no_graph;
  return model.hidden(make_pass(build_forests(some_samples(), 1000)[0], at::kFloat));
}
Pruned cut(LoadedModel& source, const PruneSpec& spec) {
  return prune(source, at::kFloat, spec, some_samples(), 1);
}
std::string refusal(LoadedModel& source, const PruneSpec& spec) {
  try {
    cut(source, spec);
  } catch (const RecipeError& error) { return error.what(); }
  return "";
}
double distance(const Tensor& a, const Tensor& b) {
  return ((a - b).abs().max() / b.abs().max()).item<double>();
}

TEST(Prune, KeptLayersAreTheSourcesOwn) {
  for (const auto* family : {"llama", "gemma3", "phi3"}) {
    auto source = tiny(family);
    const auto pruned = cut(source, {.keep_layers = {1}});
    EXPECT_EQ(pruned.model.model->config.layers, 1);
    EXPECT_NE(pruned.model.sha256.get(), source.sha256.get());
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
    if (linear->name.starts_with("model.layers.0.") &&
        (linear->name.ends_with("o_proj") || linear->name.ends_with("down_proj")))
      linear->weight = dense_weight(at::zeros_like(linear->weight.dense));
  const auto pruned = cut(source, {.layers = 1, .rank_layers = "influence"});
  EXPECT_EQ(pruned.layers, (std::vector<int64_t>{1}));
  EXPECT_LT(distance(hidden_of(*pruned.model.model), hidden_of(*source.model)), 1e-5);  // nothing was lost
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
    if (linear->name.ends_with("v_proj")) zero_rows(*linear, 0, config.head_dim);  // group 0
  }
  const auto whole = hidden_of(model);
  const auto pruned = cut(source, {.intermediate = config.intermediate - 8, .kv_heads = config.kv_heads - 1});
  EXPECT_EQ(pruned.model.model->config.heads, config.heads / config.kv_heads * (config.kv_heads - 1));
  EXPECT_LT(distance(hidden_of(*pruned.model.model), whole), 1e-5);
}

// An embedding channel that is zero everywhere and that nothing writes can go; the mean square of the norms
// changes with the number of channels, by one factor that the next norm undoes.
TEST(Prune, EmbeddingChannelsAreCutEverywhere) {
  auto source = tiny("qwen3");
  auto& model = *source.model;
  const auto channel = 3;
  const auto zero = [&](Weight& weight, int64_t dimension) {
    auto w = widen(weight, at::kFloat).clone();
    w.narrow(dimension, channel, 1).zero_();
    weight = dense_weight(w);
  };
  zero(model.embedding.weight, 1);
  for (auto* linear : model.linears())
    if (linear->name.ends_with("o_proj") || linear->name.ends_with("down_proj")) zero(linear->weight, 0);
  if (model.config.tied_head) model.head.linear.weight = model.embedding.weight;
  const auto pruned = cut(source, {.hidden = model.config.hidden - 1});
  const auto& small = *pruned.model.model;
  EXPECT_EQ(small.config.hidden, model.config.hidden - 1);
  EXPECT_EQ(small.embedding.weight.columns, model.config.hidden - 1);
  for (const auto& [name, tensor, place] : pruned.model.model->vectors())
    EXPECT_TRUE(!name.ends_with("layernorm.weight") || tensor->size(0) == model.config.hidden - 1) << name;
  // The first q_proj's row 0 without that column.
  const auto row = model.linears()[0]->weight.dense[0];
  const auto expected =
      at::cat({row.narrow(0, 0, channel), row.narrow(0, channel + 1, row.size(0) - channel - 1)});
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

// What transformers computes with a model of those experts alone (tools/golden/models.py).
TEST(PruneExperts, AModelThatNeverHadTheOthers) {
  auto source = tiny("qwen3_moe");
  const auto pruned = cut(source, {.keep_experts = {0, 2, 3, 5}});
  EXPECT_EQ(pruned.model.model->config.experts, 4);
  EXPECT_EQ(pruned.model.model->config.experts_per_token, 2);
  EXPECT_EQ(pruned.experts, (std::vector<std::vector<int64_t>>(2, {0, 2, 3, 5})));
  EXPECT_EQ(pruned.kept[0], "experts 4 of 6 in layer 0: 0 2 3 5; named");
  const auto folder = std::filesystem::path(source_dir()) / "tests/golden/models/qwen3_moe";
  const auto row = read_json(folder / "golden.json")["rows"][2].get<std::vector<int32_t>>();
  const auto file = open_safetensors(folder / "golden.safetensors");
  const auto* stored = file.find("pruned.logits");
  ASSERT_TRUE(stored);
  const auto expected =
      at::from_blob(const_cast<std::byte*>(stored->data.data()), stored->shape, at::TensorOptions(at::kFloat))
          .clone();
  Forest forest;
  forest.add_segment(row);
  const auto pass = make_pass(forest, at::kFloat);
  const at::NoGradGuard no_graph;
  const auto& model = *pruned.model.model;
  EXPECT_LT(
      distance(logits(model.hidden(pass), std::vector<int32_t>{26, 27, 28, 29}, model.head, pass), expected),
      1e-5);
}

// Use and contribution, from the definition: every expert for every token.
TEST(PruneExperts, MeasuresUseAndContributionOfEachExpert) {
  for (const auto* family : {"qwen3_moe", "qwen3_moe_plain", "mixtral"}) {
    auto source = tiny(family);
    const auto& config = source.model->config;
    const auto measured = measure_importance(source, at::kFloat, some_samples(), 1);
    ASSERT_EQ(measured.experts.size(), 2u);
    std::map<std::string, Tensor> weights;
    for (const auto* linear : source.model->linears()) weights[linear->name] = linear->weight.dense;
    auto pass = make_pass(build_forests(some_samples(), 512)[0], at::kFloat);
    size_t layer = 0;
    pass.observe = [&](const Linear& linear, const Tensor& x) {
      if (!linear.name.ends_with(".gate")) return;
      const auto logits = at::linear(x, linear.weight.dense);
      const auto p = logits.softmax(1);
      const auto [top, chosen] = p.topk(config.experts_per_token, 1);
      const auto w = config.renormalise ? top / top.sum(1, true) : top;
      const auto block = linear.name.substr(0, linear.name.size() - 4) + "experts.";
      const bool mixtral = config.family == "mixtral";
      for (int64_t e = 0; e < config.experts; ++e) {
        const auto name = block + std::to_string(e) + ".";
        const auto h = at::silu(at::linear(x, weights.at(name + (mixtral ? "w1" : "gate_proj")))) *
                       at::linear(x, weights.at(name + (mixtral ? "w3" : "up_proj")));
        const auto norms = at::linear(h, weights.at(name + (mixtral ? "w2" : "down_proj"))).norm(2, 1, true);
        const auto mine = chosen.eq(e);
        EXPECT_EQ(measured.experts[layer].tokens[static_cast<size_t>(e)], mine.sum().item<double>())
            << family;
        const auto sum = (w * mine * norms).sum().item<double>();
        EXPECT_NEAR(measured.experts[layer].contribution[static_cast<size_t>(e)] / std::max(sum, 1e-9),
                    sum > 0 ? 1 : 0, 1e-5)
            << family;
        EXPECT_NEAR(measured.experts[layer].alike[e][0].item<double>(),
                    at::cosine_similarity(logits.select(1, e), logits.select(1, 0), 0).item<double>(), 1e-5);
      }
      ++layer;
    };
    const at::NoGradGuard no_graph;
    source.model->hidden(pass);
    EXPECT_EQ(layer, 2u);
  }
}

TEST(PruneExperts, KeepsThoseThatMatterByEitherRank) {
  auto source = tiny("qwen3_moe");
  const auto measured = measure_importance(source, at::kFloat, some_samples(), 1);
  for (const std::string rank : {"contribution", "frequency"}) {
    const auto pruned = cut(source, {.experts = 3, .rank_experts = rank});
    for (size_t layer = 0; layer < 2; ++layer) {
      const auto& scores =
          rank == "frequency" ? measured.experts[layer].tokens : measured.experts[layer].contribution;
      double kept = 1e9, dropped = 0;
      for (int64_t e = 0; e < 6; ++e) {
        const auto score = scores[static_cast<size_t>(e)];
        if (std::count(pruned.experts[layer].begin(), pruned.experts[layer].end(), e))
          kept = std::min(kept, score);
        else dropped = std::max(dropped, score);
      }
      EXPECT_GE(kept, dropped);
    }
    EXPECT_NE(pruned.kept[1].find("experts 3 of 6 in layer 1: "), std::string::npos);
  }
  EXPECT_EQ(cut(source, {.experts = 1}).model.model->config.experts_per_token, 1);  // of 2
  const auto both = cut(source, {.keep_layers = {1}, .experts = 2});  // the second layer's own experts
  EXPECT_EQ(both.experts, (std::vector<std::vector<int64_t>>{cut(source, {.experts = 2}).experts[1]}));
}

// Three of the four layers have no experts: the cut is of the fourth alone, and needs it.
TEST(PruneExperts, OfSomeLayersLeaveTheOthersAlone) {
  auto source = tiny("qwen3_moe_dense");
  const auto pruned = cut(source, {.keep_layers = {0, 3}, .experts = 2});
  const auto& config = pruned.model.model->config;
  EXPECT_EQ(config.dense_layers, (std::vector<bool>{true, false}));
  EXPECT_EQ(config.experts, 2);
  ASSERT_EQ(pruned.experts.size(), 1u);
  EXPECT_EQ(pruned.experts[0].size(), 2u);
  EXPECT_EQ(std::ranges::count_if(pruned.kept, [](const auto& line) { return line.starts_with("experts"); }),
            1);
  EXPECT_EQ(cut(source, {.keep_layers = {0, 2}}).model.model->config.dense_layers,
            (std::vector<bool>{true, true}));
  EXPECT_EQ(refusal(source, {.keep_layers = {0, 1}, .experts = 2}),
            "prune.experts: none of the layers that are kept has experts");
}

TEST(MergeExperts, AveragesByUseByHand) {
  const auto matrix = [](std::initializer_list<float> values, int64_t rows) {
    return at::tensor(values, at::TensorOptions(at::kFloat)).view({rows, -1});
  };
  const ExpertMatrices one{matrix({1, 0}, 1), matrix({2, 0}, 1), matrix({4, 0}, 2)},
      two{matrix({5, 4}, 1), matrix({2, 8}, 1), matrix({0, 4}, 2)};
  const auto merged = merge_experts({one, two}, {3, 1});
  EXPECT_TRUE(at::equal(merged.gate, matrix({2, 1}, 1)));
  EXPECT_TRUE(at::equal(merged.up, matrix({2, 2}, 1)));
  EXPECT_TRUE(at::equal(merged.down, matrix({3, 1}, 2)));
  EXPECT_TRUE(at::equal(merge_experts({one, two}, {0, 0}).gate, matrix({3, 2}, 1)));  // nobody used either
}

TEST(MergeExperts, ChannelsAreBroughtInOrderFirst) {
  auto source = tiny("mixtral");
  ExpertMatrices one;
  for (const auto* linear : source.model->linears()) {
    if (!linear->name.starts_with("model.layers.0.block_sparse_moe.experts.1.")) continue;
    (linear->name.ends_with("w1")   ? one.gate
     : linear->name.ends_with("w3") ? one.up
                                    : one.down) = linear->weight.dense;
  }
  const auto shuffle = (at::arange(24) * 7).remainder(24);
  const auto merged = merge_experts({one,
                                     {one.gate.index_select(0, shuffle), one.up.index_select(0, shuffle),
                                      one.down.index_select(1, shuffle)}},
                                    {5, 11});
  EXPECT_LT(distance(merged.gate, one.gate), 1e-6);
  EXPECT_LT(distance(merged.up, one.up), 1e-6);
  EXPECT_LT(distance(merged.down, one.down), 1e-6);
}

// A copy of a golden folder with another number of experts a token.
LoadedModel with_experts_per_token(const std::string& family, int64_t count) {
  const auto from = std::filesystem::path(source_dir()) / "tests/golden/models" / family,
             folder = std::filesystem::temp_directory_path() / fmt::format("retort_experts_{}", getpid());
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(from / "model.safetensors", folder / "model.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  auto config = read_json(from / "config.json");
  config["num_experts_per_tok"] = count;
  std::ofstream(folder / "config.json") << config.dump();
  auto loaded = load_weights({.path = folder.string(), .weights = "f32"});
  loaded.sha256.get();  // others read the file for it
  std::filesystem::remove_all(folder);
  return loaded;
}

// Expert `to` becomes a copy of `from` with shuffled channels and the same row of the router, in every layer.
void copy_expert(Model& model, int64_t from, int64_t to) {
  std::map<TensorPlace, Linear*> layers;
  for (auto* linear : model.linears()) layers[linear->place] = linear;
  for (const auto& [place, linear] : layers) {
    if (place.expert != to) continue;
    const auto original = layers.at({place.layer, place.role, from})->weight.dense;
    const bool down = place.role == Role::down;
    const auto channels = original.size(down ? 1 : 0);
    linear->weight =
        dense_weight(original.index_select(down ? 1 : 0, at::arange(channels).flip(0)).contiguous());
  }
  for (auto& [name, tensor, place] : model.vectors())
    if (tensor->dim() == 2) tensor->select(0, to).copy_(tensor->select(0, from));
}

TEST(PruneExperts, MergingEqualExpertsChangesNothing) {
  auto source =
      with_experts_per_token("qwen3_moe", 1);  // where several were chosen, one less would be another sum
  copy_expert(*source.model, 1, 4);
  copy_expert(*source.model, 2, 3);
  const auto whole = hidden_of(*source.model);
  const auto pruned = cut(source, {.keep_experts = {0, 1, 2, 5}, .dropped_experts = "merge"});
  EXPECT_NE(pruned.kept[0].find("merged, cosine of router logits: 3 into 2 (1.00), 4 into 1 (1.00)"),
            std::string::npos)
      << pruned.kept[0];
  EXPECT_LT(distance(hidden_of(*pruned.model.model), whole), 1e-5);

  auto same = tiny("mixtral");  // all four alike: two of them weigh as much as one
  for (int64_t e = 1; e < 4; ++e) copy_expert(*same.model, 0, e);
  const auto one = cut(same, {.experts = 1, .dropped_experts = "merge"});
  EXPECT_EQ(one.model.model->config.experts, 1);
  EXPECT_LT(distance(hidden_of(*one.model.model), hidden_of(*same.model)), 1e-5);
}

TEST(PruneExperts, RefusesWhatCannotBeCut) {
  auto dense = tiny(), sparse = tiny("mixtral");
  EXPECT_EQ(refusal(dense, {.experts = 2}), "prune.experts: this model has no experts");
  EXPECT_EQ(refusal(dense, {.keep_experts = {0}}), "prune.keep_experts: this model has no experts");
  EXPECT_EQ(refusal(sparse, {.experts = 5}), "prune.experts: 5 asked for, the model has 4 in each layer");
  EXPECT_EQ(refusal(sparse, {.keep_experts = {4}}),
            "prune.keep_experts: expert 4 is asked for; the model has 4, counted from 0");
  EXPECT_EQ(refusal(sparse, {.keep_experts = {2, 1}}),
            "prune.keep_experts: expected rising numbers, each once");
  EXPECT_EQ(refusal(sparse, {.experts = 1, .keep_experts = {0}}),
            "prune: give experts or keep_experts, not both");
  EXPECT_EQ(refusal(sparse, {.layers = 1, .dropped_experts = "merge"}),
            "prune.dropped_experts: no expert is dropped; set experts or keep_experts");
  EXPECT_NE(
      refusal(sparse, {.intermediate = 8}).find("a model with experts is not cut in intermediate or hidden"),
      std::string::npos);
}

TEST(PruneExperts, LayersAndHeadsOfASparseModelAreCutAsOfAnyOther) {
  for (const auto* family : {"qwen3_moe", "mixtral"}) {
    auto source = tiny(family);
    const auto pruned = cut(source, {.keep_layers = {1}, .kv_heads = 1});
    EXPECT_EQ(pruned.model.model->config.kv_heads, 1);
    EXPECT_EQ(pruned.model.model->config.experts, source.model->config.experts);
    EXPECT_EQ(hidden_of(*pruned.model.model).size(1), 32);
  }
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
  const std::vector<std::vector<int32_t>> expected = {{0},    {1}, {2}, {3},
                                                      {1, 2}, {9}};  // bc is b and c there; an end is an end
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
  used[6] = true;  // abc
  const auto trimmed = trim_tokenizer(*tokenizer, used);
  EXPECT_EQ(trimmed.former, (std::vector<int32_t>{0, 1, 2, 3, 4, 6, 9}));  // bytes, ab, abc, control
  EXPECT_EQ(trimmed.tokenizer->eos, 6);
  for (const auto* text : {"abc", "abcabc", "ab", "a"}) {
    std::vector<int32_t> back;
    for (const auto id : trimmed.tokenizer->encode(text))
      back.push_back(trimmed.former[static_cast<size_t>(id)]);
    EXPECT_EQ(back, tokenizer->encode(text)) << text;
  }
  EXPECT_EQ(trimmed.tokenizer->decode(trimmed.tokenizer->encode("abcdd")),
            "abcdd");  // other texts too, in smaller pieces
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
  const auto before = source.model->embedding.weight.dense,
             after = pruned.model.model->embedding.weight.dense;
  const auto find = [&](const char* text) {
    return static_cast<int64_t>(*pruned.model.tokenizer->find(text));
  };
  EXPECT_TRUE(at::equal(after[find("abc")], before[6]));
  EXPECT_TRUE(at::equal(after[find("<|end|>")], before[9]));
  EXPECT_EQ(pruned.model.model->config.eos, (std::vector<int32_t>{static_cast<int32_t>(find("<|end|>"))}));
  EXPECT_FALSE(pruned.model.tokenizer->find("dd"));
}

}  // namespace
}  // namespace retort
