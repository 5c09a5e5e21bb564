// Tokens that a base lacks: added to tokenizer and matrices, trained, written in every format and read back.
#include "models/add_tokens.h"

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "adapters/merge.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/peft_folder.h"
#include "ops/tensors.h"  // tests/ops

namespace retort {
namespace {

const std::vector<NewToken> kTokens = {{"<|law|>", true}, {"<|end_law|>", true}, {"stat word", false}};

Tensor logits_of(const LoadedModel& loaded, const std::vector<int32_t>& tokens) {
  const at::NoGradGuard no_grad;
  Forest forest;
  forest.add_segment(tokens);
  const auto pass = make_pass(forest, at::kFloat);
  std::vector<int32_t> rows(tokens.size());
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int32_t>(i);
  return logits(loaded.model->hidden(pass), rows, loaded.model->head, pass);
}

void train_a_little(LoadedModel& loaded, const AdapterSpec& spec) {
  const at::NoGradGuard no_grad;
  for (const auto& leaf : attach(*loaded.model, with_token_ids(spec, loaded), 7))
    leaf.tensor->add_(0.1 * at::arange(leaf.tensor->numel()).reshape(leaf.tensor->sizes()).cos());
}

AdapterSpec lora() {
  AdapterSpec spec;
  spec.rank = 2;
  spec.targets = {"q_proj", "down_proj"};
  return spec;
}

TEST(AddedTokens, TakeTheNextIdsAndTheMeanOfTheRows) {
  for (const std::string family : {"llama", "gemma3"})
    for (const int64_t known : {96, 95, 90}) {  // no row to spare, one, six
      const TemporaryFolder folder;
      const ModelSpec spec{.path = tiny_folder(folder / "tiny", family, tiny_tokenizer(known)).string(),
                           .compute = "f32"};
      const auto plain = load_model(spec);
      auto loaded = load_model(spec);
      add_tokens(loaded, kTokens);
      const auto& model = *loaded.model;
      const auto where = family + " " + std::to_string(known);
      const auto rows = std::max<int64_t>(96, known + 3);
      EXPECT_EQ(model.config.vocabulary, rows) << where;
      EXPECT_EQ(loaded.tokenizer->size(), known + 3) << where;
      EXPECT_EQ(loaded.tokenizer->rows, rows) << where;
      EXPECT_EQ(loaded.tokenizer->find("<|law|>"), known) << where;
      EXPECT_EQ(loaded.tokenizer->find("stat word"), known + 2) << where;
      const auto encode = [&](Specials how) { return loaded.tokenizer->encode("a<|law|>b stat word!", how); };
      const auto id = static_cast<int32_t>(known);
      EXPECT_EQ(std::ranges::count(encode(Specials::as_tokens), id), 1) << where;
      EXPECT_EQ(std::ranges::count(encode(Specials::as_text), id), 0) << where;
      EXPECT_EQ(std::ranges::count(encode(Specials::as_text), id + 2), 1) << where;
      EXPECT_EQ(loaded.tokenizer->decode(encode(Specials::as_tokens), true), "ab stat word!") << where;
      for (const auto* layer : {&model.embedding, &model.head.linear}) {
        const auto* old = layer == &model.embedding ? &plain.model->embedding : &plain.model->head.linear;
        const auto before = widen(old->weight, at::kFloat), after = widen(layer->weight, at::kFloat);
        ASSERT_EQ(after.size(0), rows) << where;
        EXPECT_TRUE(at::equal(after.narrow(0, 0, known), before.narrow(0, 0, known))) << where;
        const auto mean =
            before.narrow(0, 0, known).to(at::kDouble).mean(0).to(old->weight.dense.scalar_type());
        for (int64_t i = 0; i < 3; ++i) EXPECT_LT(distance(after[known + i], mean), 1e-6) << where;
      }
      const std::vector<int32_t> text = {1, 17, 42, 9};
      EXPECT_LT(
          distance(logits_of(loaded, text).narrow(1, 0, known), logits_of(plain, text).narrow(1, 0, known)),
          1e-6)
          << where;
    }
}

TEST(AddedTokens, AreTrainedAloneAndWrittenInEveryFormat) {
  for (const std::string family : {"llama", "gemma3"})
    for (const int64_t known : {96, 90}) {
      const TemporaryFolder folder;
      auto loaded = tiny_model(folder, family, known);
      add_tokens(loaded, kTokens);
      train_a_little(loaded, lora());
      const auto id = static_cast<int32_t>(known);
      const std::vector<int32_t> text = {1, id, 42, id + 2, 9, id + 1};
      const auto expected = logits_of(loaded, text);
      const auto where = family + " " + std::to_string(known);
      const auto same = [&](const LoadedModel& again, double most) {
        EXPECT_LT(distance(logits_of(again, text), expected), most) << where;
        EXPECT_EQ(again.tokenizer->find("<|end_law|>"), id + 1) << where;
        EXPECT_TRUE(again.tokenizer->is_special(id)) << where;
        EXPECT_FALSE(again.tokenizer->is_special(id + 2)) << where;
        for (const auto how : {Specials::as_text, Specials::as_tokens})
          EXPECT_EQ(again.tokenizer->encode("a stat word<|law|>", how),
                    loaded.tokenizer->encode("a stat word<|law|>", how))
              << where;
        EXPECT_EQ(again.model->config.tied_head, loaded.model->config.tied_head);
      };
      write_hf_folder(folder / "merged", loaded, WeightType::f32, 1 << 20, 1);
      same(load_model({.path = folder / "merged", .compute = "f32"}), 1e-5);
      write_gguf_model(folder / "model.gguf", loaded, *mixture_from_name("F32"), true, 1);
      same(load_model({.path = folder / "model.gguf", .compute = "f32"}), 1e-5);

      // The adapter brings its tokens and their rows along, and files of the larger tokenizer.
      const auto spec = described_adapter(*loaded.model);
      EXPECT_EQ(spec.trainable_tokens.size(), 3u);
      write_peft_adapter(folder / "adapter", loaded, spec);
      auto again = load_model({.path = folder / "tiny", .compute = "f32"});
      EXPECT_TRUE(load_adapter(again, folder / "adapter").empty());
      same(again, 1e-5);
      EXPECT_EQ(again.added_tokens, kTokens);
      EXPECT_EQ(tokenizer_from_folder(folder / "adapter")->find("stat word"), id + 2);

      auto other = load_model({.path = folder / "tiny", .compute = "f32", .add_tokens = {"<|other|>"}});
      EXPECT_NE(refusal_of([&] { load_adapter(other, folder / "adapter"); })
                    .find("was trained with tokens that were added to its base, [<|law|>, <|end_law|>, stat "
                          "word]; add the same ones here (model.add_tokens, model.add_words)"),
                std::string::npos);
      merge_adapters(loaded);
      same(loaded, 1e-5);
    }
}

// A GGUF file's list is padded to the rows of its embedding; its blocks take rows of their own type.
TEST(AddedTokens, TakeTheRowsThatAGgufFilePads) {
  const TemporaryFolder folder;
  auto plain = tiny_model(folder, "llama", 90);
  write_gguf_model(folder / "base.gguf", plain, *mixture_from_name("Q8_0"), true, 1);
  for (const size_t many : {2, 8}) {
    ModelSpec spec{.path = folder / "base.gguf", .compute = "f32"};
    for (size_t i = 0; i < many; ++i) spec.add_tokens.push_back("<|new" + std::to_string(i) + "|>");
    auto loaded = load_model(spec);
    EXPECT_EQ(loaded.tokenizer->find("<|new0|>"), 90);
    EXPECT_EQ(loaded.model->config.vocabulary, many == 2 ? 96 : 98);
    EXPECT_EQ(loaded.model->embedding.weight.type, WeightType::q8_0);
    const auto rows = widen(loaded.model->embedding.weight, at::kFloat);
    EXPECT_LT(distance(rows[91], rows.narrow(0, 0, 90).mean(0)), 0.02);
    train_a_little(loaded, lora());
    const std::vector<int32_t> text = {1, 90, 42, 91};
    const auto expected = logits_of(loaded, text);
    write_gguf_model(folder / "again.gguf", loaded, *mixture_from_name("F32"), true, 1);
    const auto again = load_model({.path = folder / "again.gguf", .compute = "f32"});
    EXPECT_LT(distance(logits_of(again, text), expected), 1e-5);
    EXPECT_EQ(again.tokenizer->find("<|new1|>"), 91);
    EXPECT_TRUE(again.tokenizer->is_special(91));
  }
}

TEST(AddedTokens, WhatDoesNotFitIsRefusedInOneLine) {
  const TemporaryFolder folder;
  const auto path = tiny_folder(folder / "tiny", "gemma3", tiny_tokenizer(96)).string();
  const auto adding = [&](const ModelSpec& spec) { return refusal_of([&] { load_model(spec); }); };
  EXPECT_EQ(adding({.path = path, .add_tokens = {"</s>"}}),
            "model.add_tokens: '</s>' is a token of this model already (id 2); leave it out");
  EXPECT_EQ(adding({.path = path, .add_words = {"law", "law"}}), "model.add_words: 'law' stands there twice");
  EXPECT_EQ(adding({.path = path, .add_words = {""}}),
            "model.add_words: '' is empty; expected a token's text");

  EXPECT_NE(adding({.path = path, .add_words = {"<|a|>"}}).find("is spelled as control tokens are"),
            std::string::npos);
  const auto loaded = load_model({.path = path, .add_tokens = {"<|a|>"}});
  const auto fits = [&](const AdapterSpec& spec) {
    return refusal_of([&] { require_fitting(*loaded.model, with_token_ids(spec, loaded)); });
  };
  auto spec = lora();
  EXPECT_EQ(fits(spec), "accepted");
  EXPECT_EQ(with_token_ids(spec, loaded).trainable_tokens, (std::vector<std::string>{"96"}));
  spec.modules_to_save = {"embed_tokens"};
  EXPECT_NE(fits(spec).find("names one of embed_tokens and lm_head"), std::string::npos);
  spec.modules_to_save = {"embed_tokens", "lm_head"};
  EXPECT_EQ(fits(spec), "accepted");
  EXPECT_TRUE(with_token_ids(spec, loaded).trainable_tokens.empty());
  spec.modules_to_save = {};
  spec.targets = {"lm_head"};
  EXPECT_NE(fits(spec).find("PEFT holds no rows of added tokens"), std::string::npos);
}

}  // namespace
}  // namespace retort
