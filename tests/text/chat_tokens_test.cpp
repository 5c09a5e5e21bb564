// SmolLM2's ids, answer masks and prompts for six dialogues, as transformers' apply_chat_template gives them.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "text/chat.h"
#include "text/gguf_metadata.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::string kGguf = std::string(source_dir()) + "/checkpoints/smollm2-135m-instruct-q4_1.gguf";

TEST(RenderTokens, IdsAndMasksOfSmollm2EqualTransformers) {
  if (!std::filesystem::exists(kGguf)) GTEST_SKIP() << kGguf << " is missing: tools/setup fetches it";
  const auto tokenizer = tokenizer_from_gguf(read_gguf_vocabulary(kGguf), "smollm2.gguf");
  const auto golden = read_json(std::string(source_dir()) + "/tests/golden/chat/smollm2_tokens.json");
  const auto& chat = *find_chat_template("smollm2");
  ASSERT_EQ(golden["rows"].size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    std::vector<Message> messages;
    for (const auto& message : golden["dialogues"][i])
      messages.push_back({message["role"], message["content"]});
    const auto rendered = render_tokens(chat, *tokenizer, messages, false);
    EXPECT_EQ(rendered.tokens, golden["rows"][i]["ids"].get<std::vector<int32_t>>()) << "dialogue " << i;
    std::vector<int> mask;
    for (const auto answer : rendered.answers) mask.push_back(answer >= 0);
    EXPECT_EQ(mask, golden["rows"][i]["mask"].get<std::vector<int>>()) << "dialogue " << i;
    messages.pop_back();
    EXPECT_EQ(render_tokens(chat, *tokenizer, messages, true).tokens,
              golden["rows"][i]["prompt_ids"].get<std::vector<int32_t>>())
        << "dialogue " << i;
  }
}

// Metaspace with "first" (Mistral 7B v0.3, Llama 2 as transformers 5 saves it): transformers puts the space
// before the whole text alone, so none behind a control token.
TEST(RenderTokens, ASpaceThatBeginsTextsStandsBehindNoControlToken) {
  const auto tokenizer_of = [](const char* scheme) {
    return tokenizer_from_json(
        Json({{"added_tokens",
               {{{"id", 0}, {"content", "<|im_start|>"}, {"special", true}},
                {{"id", 1}, {"content", "<|im_end|>"}, {"special", true}}}},
              {"pre_tokenizer",
               {{"type", "Metaspace"},
                {"replacement", "\u2581"},
                {"prepend_scheme", scheme},
                {"split", false}}},
              {"model",
               {{"type", "BPE"},
                {"unk_token", "u"},
                {"vocab",
                 {{"<|im_start|>", 0}, {"<|im_end|>", 1}, {"\u2581", 2}, {"u", 3}, {"b", 4}, {"\u2581b", 5}}},
                {"merges", {"\u2581 b"}}}}})
            .dump(),
        "", scheme);
  };
  const auto first = tokenizer_of("first"), always = tokenizer_of("always");
  const std::vector<Message> messages = {{"user", "b b"}};
  const auto& chat = *find_chat_template("chatml");
  EXPECT_EQ(first->encode("b"), std::vector<int32_t>{5});
  EXPECT_EQ(render_tokens(chat, *first, messages, false).tokens,
            first->encode("<|im_start|>user\nb b<|im_end|>\n", Specials::as_tokens));
  EXPECT_EQ(render_tokens(chat, *first, messages, false).tokens[1], 3);
  EXPECT_EQ(render_tokens(chat, *always, messages, false).tokens,
            always->encode("<|im_start|>user\nb b<|im_end|>\n", Specials::as_tokens));
  EXPECT_EQ(render_tokens(chat, *always, messages, false).tokens[1], 2);
}

}  // namespace
}  // namespace retort
