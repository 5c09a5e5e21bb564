// Ids of six dialogues for tokenizers and templates of ten families, as transformers' apply_chat_template
// gives them (tools/golden/chat_ids.py): through the built-in renderer and through the template's text.
#include <gtest/gtest.h>

#include "base/error.h"
#include "text/golden.h"
#include "text/jinja_chat.h"

namespace retort {
namespace {

std::unique_ptr<Tokenizer> tokenizer_of(const Json& row) {
  const std::string name = row["tokenizer"];
  const Json config = {
      {"bos_token", row["bos"]}, {"eos_token", row["eos"]}, {"add_bos_token", !row["bos"].is_null()}};
  return tokenizer_from_json(golden(name)["tokenizer_json"].get<std::string>(), config.dump(), name);
}

// Of a dialogue with this chat template; `header`: the prompt alone.
std::vector<int32_t> ids_of(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& dialogue,
                            bool header) {
  std::vector<Message> messages;
  for (const auto& message : dialogue) messages.push_back({message["role"], message["content"]});
  if (header) messages.pop_back();
  return render_tokens(chat, tokenizer, messages, header).tokens;
}

TEST(ChatIds, EqualTransformersForEachFamily) {
  const auto stored = read_json(source_path("tests/golden/chat/ids.json"));
  int compared = 0, refused = 0;
  for (const auto& row : stored["rows"]) {
    const auto tokenizer = tokenizer_of(row);
    const std::string name = row["template"];
    const auto* built_in = find_chat_template(name);
    ASSERT_NE(built_in, nullptr) << name;
    const auto text = jinja_chat_template(row["source"], *tokenizer);
    for (size_t i = 0; i < stored["dialogues"].size(); ++i) {
      const auto& dialogue = stored["dialogues"][i];
      const bool system = dialogue[0]["role"] == "system";
      for (const bool header : {false, true}) {
        const auto& ids = row["dialogues"][i][header ? "prompt_ids" : "ids"];
        const auto where = fmt::format("{} with {}, dialogue {}{}", name, row["tokenizer"].get<std::string>(),
                                       i, header ? ", prompt" : "");
        if (ids.is_null()) {
          EXPECT_THROW(ids_of(*built_in, *tokenizer, dialogue, header), RecipeError) << where;
          EXPECT_THROW(ids_of(text, *tokenizer, dialogue, header), RecipeError) << where;
          ++refused;
          continue;
        }
        if (system && name.starts_with("mistral-v3")) continue;  // the text drops the system message
        if (system && name == "phi3") {  // this tokenizer has no <|system|>, which would be words
          EXPECT_THROW(ids_of(*built_in, *tokenizer, dialogue, header), RecipeError) << where;
        } else {
          EXPECT_EQ(Json(ids_of(*built_in, *tokenizer, dialogue, header)), ids) << where;
        }
        EXPECT_EQ(Json(ids_of(text, *tokenizer, dialogue, header)), ids) << where << ", its text";
        ++compared;
      }
    }
  }
  EXPECT_GE(compared, 100);
  EXPECT_EQ(refused, 6);  // Gemma knows no system message
}

}  // namespace
}  // namespace retort
