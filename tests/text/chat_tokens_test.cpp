// SmolLM2's ids, answer masks and prompts for six dialogues, as transformers' apply_chat_template gives them.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "text/chat.h"
#include "text/gguf_metadata.h"

namespace retort {
namespace {

const std::string kGguf = std::string(RETORT_SOURCE_DIR) + "/checkpoints/smollm2-135m-instruct-q4_1.gguf";

TEST(RenderTokens, IdsAndMasksOfSmollm2EqualTransformers) {
  if (!std::filesystem::exists(kGguf)) GTEST_SKIP() << kGguf << " is missing: tools/setup fetches it";
  const auto tokenizer = tokenizer_from_gguf(read_gguf_vocabulary(kGguf), "smollm2.gguf");
  const auto golden = read_json(std::string(RETORT_SOURCE_DIR) + "/tests/golden/chat/smollm2_tokens.json");
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

}  // namespace
}  // namespace retort
