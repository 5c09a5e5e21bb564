#include "text/chat.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "base/json.h"
#include "text/byte_tokenizer.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::string kGoldens = std::string(source_dir()) + "/tests/golden/chat/";

std::vector<Message> dialogue(const Json& golden, size_t number) {
  std::vector<Message> messages;
  for (const auto& message : golden["dialogues"][number])
    messages.push_back({message["role"], message["content"]});
  return messages;
}

TEST(ChatTemplates, RenderAsTheReleasedTemplatesDo) {
  const auto golden = read_json(kGoldens + "rendered.json");
  std::set<std::string> families;
  for (const auto& entry : golden["cases"]) {
    const std::string name = entry["template"];
    families.insert(name);
    const auto* chat = find_chat_template(name);
    ASSERT_NE(chat, nullptr) << name;
    auto messages = dialogue(golden, entry["dialogue"]);
    const bool header = entry["header"];
    if (header) messages.pop_back();
    const auto where =
        name + ", dialogue " + std::to_string(entry["dialogue"].get<int>()) + (header ? ", prompt" : "");
    if (entry["text"].is_null()) {
      EXPECT_THROW(render_text(*chat, messages, header, "", "<EOS>"), RecipeError) << where;
    } else {
      EXPECT_EQ(render_text(*chat, messages, header, "", "<EOS>"), entry["text"].get<std::string>()) << where;
    }
  }
  EXPECT_GE(families.size(), 17u);
}

TEST(ChatTemplates, AreChosenByTheHashOfTheModelsOwn) {
  const std::string smollm2 =
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\nYou are a helpful AI assistant named "
      "SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
  const auto* chosen = chat_template_by_source(smollm2);
  ASSERT_NE(chosen, nullptr);
  EXPECT_EQ(chosen->name, "smollm2");
  EXPECT_EQ(chat_template_by_source(smollm2 + "{# a comment #}"), nullptr);  // equal, or not known
}

// What an export carries for a named template reads back as that template. (That the texts render as the
// families do was seen with Jinja2 over rendered.json.)
TEST(ChatTemplates, TextsKeptHereAreKnownAgain) {
  int kept = 0;
  for (const auto& chat : chat_templates())
    for (const bool bos : {true, false}) {
      const auto source = chat_template_source(chat.name, bos);
      if (source.empty()) continue;
      ++kept;
      const auto* found = chat_template_by_source(source);
      ASSERT_NE(found, nullptr) << chat.name;
      EXPECT_EQ(found->name, chat.name);
    }
  EXPECT_EQ(kept, 2 * 11);
  EXPECT_TRUE(chat_template_source("plain", true).starts_with("{{ bos_token }}"));
  EXPECT_FALSE(chat_template_source("plain", false).starts_with("{{ bos_token }}"));
}

TEST(ChatTemplates, UnknownOnesAreAnErrorThatSaysWhatToSet) {
  EXPECT_EQ(chat_template_by_source("{{ messages }}"), nullptr);
  for (const auto& [name, source] : {std::pair{"auto", ""}, {"smolm2", ""}}) {
    try {
      choose_chat_template({name}, source, chat_tokenizer());
      FAIL() << name;
    } catch (const RecipeError& error) {
      EXPECT_NE(std::string(error.what()).find("data.template"), std::string::npos);
      EXPECT_NE(std::string(error.what()).find("smollm2"), std::string::npos);
    }
  }
}

TEST(ChatTemplates, RolesThatAFamilyDoesNotKnowAreRefused) {
  for (const auto& chat : chat_templates())
    EXPECT_THROW(chat.render({{"tool", "x"}}, false), RecipeError) << chat.name;
  EXPECT_THROW(find_chat_template("gemma")->render({{"system", "x"}, {"user", "y"}}, false), RecipeError);
  EXPECT_THROW(find_chat_template("llama2")->render({{"user", "x"}, {"user", "y"}}, false), RecipeError);
}

TEST(RenderTokens, ContentNeverBecomesControl) {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>"});
  const auto rendered = render_tokens(*find_chat_template("chatml"), tokenizer,
                                      {{"user", "<|im_end|>"}, {"assistant", "ok"}}, false);
  int controls = 0;
  for (const auto id : rendered.tokens) controls += id >= 256;
  EXPECT_EQ(controls, 4);  // two turns of two, none from the user's text
}

TEST(RenderTokens, AnswersCoverContentAndEndTokenOnly) {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>"});
  const auto rendered =
      render_tokens(*find_chat_template("chatml"), tokenizer,
                    {{"user", "a"}, {"assistant", "xy"}, {"user", "b"}, {"assistant", "z"}}, false);
  std::string marked;
  for (size_t i = 0; i < rendered.tokens.size(); ++i)
    if (rendered.answers[i] >= 0)
      marked += std::to_string(rendered.answers[i]) + tokenizer.token_text(rendered.tokens[i]) + " ";
  EXPECT_EQ(marked, "1x 1y 1<|im_end|> 3z 3<|im_end|> ");
}

TEST(RenderTokens, PromptWithReplyHeaderIsAPrefixOfTheWhole) {
  std::vector<std::string> specials = {"<s>", "</s>", "<bos>"};
  for (const char* text : {"<|im_start|>",
                           "<|im_end|>",
                           "<|start_header_id|>",
                           "<|end_header_id|>",
                           "<|eot_id|>",
                           "<|begin_of_text|>",
                           "[INST]",
                           "[/INST]",
                           "[SYSTEM_PROMPT]",
                           "[/SYSTEM_PROMPT]",
                           "<start_of_turn>",
                           "<end_of_turn>",
                           "<|user|>",
                           "<|assistant|>",
                           "<|end|>",
                           "<think>",
                           "</think>",
                           "<｜begin▁of▁sentence｜>",
                           "<｜User｜>",
                           "<｜Assistant｜>",
                           "<｜end▁of▁sentence｜>"})
    specials.push_back(text);
  ByteTokenizer tokenizer(specials);
  tokenizer.eos = 257;
  for (const auto& chat : chat_templates()) {
    const bool thinks = chat.name == "deepseek-r1" || chat.name.ends_with("-thinking");
    const std::vector<Message> whole = {{"user", "q"},
                                        {"assistant", thinks ? "<think>\nhm\n</think>\n\na" : "a"}};
    const auto prompt = render_tokens(chat, tokenizer, {whole[0]}, true);
    const auto all = render_tokens(chat, tokenizer, whole, false);
    ASSERT_LT(prompt.tokens.size(), all.tokens.size()) << chat.name;
    EXPECT_TRUE(std::equal(prompt.tokens.begin(), prompt.tokens.end(), all.tokens.begin())) << chat.name;
    for (size_t i = 0; i < prompt.tokens.size(); ++i)
      EXPECT_EQ(all.answers[i], -1) << chat.name << " token " << i;
    EXPECT_EQ(all.answers[prompt.tokens.size()], 1) << chat.name;
  }
}

TEST(RenderTokens, MissingControlTokenIsNamed) {
  const ByteTokenizer tokenizer({});
  try {
    render_tokens(*find_chat_template("chatml"), tokenizer, {{"user", "a"}}, false);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("<|im_start|>"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace retort
