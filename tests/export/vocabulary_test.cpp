// A vocabulary shorter or longer than the embedding: written as each format wants it, read back, never
// sampled where there is no token.
#include <gtest/gtest.h>

#include "base/error.h"
#include "export/artefacts.h"
#include "export/tiny_models.h"  // tests/export
#include "formats/weight_file.h"

namespace retort {
namespace {

// Qwen 2.5, Qwen 3 and Phi-3 have more rows than tokens; llama.cpp refuses a file with fewer tokens.
TEST(Vocabulary, OfAGgufFileIsAsLongAsTheEmbedding) {
  const TemporaryFolder folder;
  auto loaded = tiny_model(folder, "qwen3", 90);
  ASSERT_EQ(loaded.model->config.vocabulary, 96);
  ASSERT_EQ(loaded.tokenizer->size(), 90);
  const auto file = folder / "model.gguf";
  write_gguf_model(file, loaded, *mixture_from_name("F32"), true, 1);
  {
    const auto written = open_gguf(file);
    const auto* tokens = list<std::string>(written.metadata("tokenizer.ggml.tokens"));
    const auto* types = list<int32_t>(written.metadata("tokenizer.ggml.token_type"));
    ASSERT_TRUE(tokens && types);
    ASSERT_EQ(tokens->size(), 96u);
    ASSERT_EQ(types->size(), 96u);
    EXPECT_EQ(tokens->at(89), loaded.tokenizer->token_text(89));
    EXPECT_EQ(types->at(89), 1);
    EXPECT_EQ(tokens->at(90), "[PAD90]");
    EXPECT_EQ(tokens->at(95), "[PAD95]");
    EXPECT_EQ(types->at(90), 5);
  }
  auto again = load_model({.path = file, .compute = "f32"});
  EXPECT_EQ(again.tokenizer->holes(), (std::vector<int32_t>{90, 91, 92, 93, 94, 95}));
  EXPECT_EQ(again.tokenizer->encode("[PAD90]"), loaded.tokenizer->encode("[PAD90]"));
  // And a folder of that file has the tokens that there were.
  write_hf_folder(folder / "merged", again, WeightType::f32, uint64_t{1} << 30, 1);
  const auto merged = load_model({.path = folder / "merged"});
  EXPECT_EQ(merged.tokenizer->size(), 90);
  EXPECT_EQ(merged.model->config.vocabulary, 96);
}

// Gemma 3's text models: 262,145 tokens over 262,144 rows.
TEST(Vocabulary, MayHaveATokenWithoutARow) {
  const TemporaryFolder folder;
  auto json = tiny_tokenizer(96);
  json["added_tokens"].push_back({{"id", 96}, {"content", "<image>"}, {"special", true}});
  tiny_folder(folder / "tiny", "llama", json);
  auto loaded = load_model({.path = folder / "tiny", .compute = "f32"});
  EXPECT_EQ(loaded.tokenizer->size(), 97);
  EXPECT_EQ(loaded.tokenizer->usable_ids(), 96);
  EXPECT_EQ(loaded.tokenizer->encode("<image>").size(), 7u);  // as text
  const auto said = refusal_of([&] { loaded.tokenizer->encode("an<image>", Specials::as_tokens); });
  EXPECT_NE(
      said.find("uses the token '<image>' (id 96), for which the model's embedding of 96 rows has none"),
      std::string::npos)
      << said;

  const auto file = folder / "model.gguf";
  write_gguf_model(file, loaded, *mixture_from_name("F32"), true, 1);
  EXPECT_EQ(list<std::string>(open_gguf(file).metadata("tokenizer.ggml.tokens"))->size(), 96u);
  EXPECT_EQ(load_model({.path = file}).tokenizer->encode("an"), loaded.tokenizer->encode("an"));
  write_hf_folder(folder / "merged", loaded, WeightType::f32, uint64_t{1} << 30, 1);
  EXPECT_EQ(load_model({.path = folder / "merged"}).tokenizer->size(), 97);
}

// A space before the first text alone, as transformers 5 has it for Llama 2: GGUF says "always" or "never". A
// conversation begins with a control token, behind which there is none; a text that is continued begins with
// one.
TEST(Vocabulary, ASpaceBeforeTheFirstTextAloneIsKeptForWhatTheModelIsAsked) {
  const TemporaryFolder folder;
  auto json = tiny_tokenizer(96);
  json["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}};
  auto& tokens = json["model"]["vocab"];
  tokens["\u2581"] = tokens["\u0120"], tokens.erase("\u0120");
  auto loaded = load_model({.path = tiny_folder(folder / "tiny", "llama", json).string(), .compute = "f32"});
  const auto reopened = [&](const char* name) {
    const std::filesystem::path file = folder / name;
    write_gguf_model(file, loaded, *mixture_from_name("F32"), true, 1);
    return load_model({.path = file.string(), .compute = "f32"}).tokenizer;
  };
  const auto text = reopened("text.gguf");
  EXPECT_EQ(text->encode("a b"), loaded.tokenizer->encode("a b"));
  loaded.chat_template_source = "{{ messages }}";
  const auto chat = reopened("chat.gguf");
  EXPECT_EQ(chat->encode("<s>a b</s>c", Specials::as_tokens),
            loaded.tokenizer->encode("<s>a b</s>c", Specials::as_tokens));
  EXPECT_NE(text->encode("<s>a b</s>c", Specials::as_tokens),
            loaded.tokenizer->encode("<s>a b</s>c", Specials::as_tokens));
}

}  // namespace
}  // namespace retort
