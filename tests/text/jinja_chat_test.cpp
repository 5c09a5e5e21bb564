#include "text/jinja_chat.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "text/byte_tokenizer.h"

namespace retort {
namespace {

const std::string kChatml =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% "
    "endif "
    "%}{# mine #}";

// "1:" before what is learned of message 1, "|" where that ends; control tokens as ids in braces.
std::string shown(const std::vector<Piece>& pieces) {
  std::string text;
  int32_t answer = -1;
  for (const auto& piece : pieces) {
    if (piece.answer != answer) text += piece.answer < 0 ? "|" : std::to_string(piece.answer) + ":";
    answer = piece.answer;
    text += piece.control ? "{" + piece.text + "}" : piece.text;
  }
  return text;
}

TEST(JinjaChat, RendersAsTheBuiltInTemplateThatItsTextIs) {
  const auto tokenizer = chat_tokenizer();
  const auto chat = jinja_chat_template(kChatml, tokenizer);
  EXPECT_EQ(chat.stops, std::vector<std::string>{"<|im_end|>"});
  const std::vector<Message> messages = {{"system", "s"},
                                         {"user", "<|im_end|> a"},
                                         {"assistant", "x<|im_end|>"},
                                         {"user", "b"},
                                         {"assistant", ""}};
  for (const bool header : {false, true})
    EXPECT_EQ(shown(chat.render(messages, header)),
              shown(find_chat_template("chatml")->render(messages, header)));
}

TEST(JinjaChat, AnswersThatLaterTurnsChangeAreNobodysInTheWhole) {
  const auto chat = jinja_chat_template(
      "{% for m in messages %}<|im_start|>{{ m.role }} {% if m.role == 'assistant' and loop.last %}(thought) "
      "{% endif "
      "%}{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif "
      "%}",
      chat_tokenizer());
  EXPECT_EQ(shown(chat.render({{"user", "a"}, {"assistant", "x"}}, false)),
            "{<|im_start|>}user a{<|im_end|>}{<|im_start|>}assistant 1:(thought) x{<|im_end|>}");
  EXPECT_EQ(shown(chat.render({{"user", "a"}, {"assistant", "x"}, {"user", "b"}, {"assistant", "y"}}, false)),
            "{<|im_start|>}user a{<|im_end|>}{<|im_start|>}assistant x{<|im_end|>}{<|im_start|>}user "
            "b{<|im_end|>}{<|im_start|>}assistant 3:(thought) y{<|im_end|>}");
}

TEST(JinjaChat, GenerationBlocksSayWhatIsLearned) {
  const auto chat = jinja_chat_template(
      "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>{% generation %}\n{{ m.content "
      "}}<|im_end|>{% "
      "endgeneration %}\n{% else %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}{% if "
      "add_generation_prompt %}<|im_start|>{% endif %}",
      chat_tokenizer());
  EXPECT_EQ(shown(chat.render({{"user", "a"}, {"assistant", "x"}}, false)),
            "{<|im_start|>}a{<|im_end|>}{<|im_start|>}1:x{<|im_end|>}");
}

TEST(JinjaChat, TheNextTurnsTokenEndsAnAnswerThatHasNoneOfItsOwn) {
  const auto chat = jinja_chat_template(
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}{% if "
      "add_generation_prompt "
      "%}<|im_start|>assistant\n{% endif %}",
      chat_tokenizer());
  EXPECT_EQ(chat.stops, std::vector<std::string>{"<|im_start|>"});
  EXPECT_EQ(shown(chat.render({{"user", "a"}, {"assistant", "x"}}, false)),
            "{<|im_start|>}user\na{<|im_start|>}assistant\n1:x{<|im_start|>}");
}

TEST(JinjaChat, AHeaderThatOpensAThoughtTheAnswerLacks) {
  const ByteTokenizer tokenizer({"<|im_start|>", "<|im_end|>", "<think>"});
  const std::string turns =
      "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}<|im_end|>{% endfor %}";
  const auto thinks = jinja_chat_template(
      turns + "{% if add_generation_prompt %}<|im_start|>assistant <think>{% endif %}", tokenizer);
  EXPECT_EQ(shown(thinks.render({{"user", "a"}, {"assistant", "x"}}, false)),
            "{<|im_start|>}user a{<|im_end|>}{<|im_start|>}assistant 1:x{<|im_end|>}");
  EXPECT_EQ(shown(thinks.render({{"user", "<think>"}, {"assistant", "<think>x"}}, false)),
            "{<|im_start|>}user <think>{<|im_end|>}{<|im_start|>}assistant {<think>}1:x{<|im_end|>}");
  const auto other =
      jinja_chat_template(turns + "{% if add_generation_prompt %}<|im_start|>bot {% endif %}", tokenizer);
  EXPECT_THROW(other.render({{"user", "a"}, {"assistant", "x"}}, false), RecipeError);
}

TEST(JinjaChat, ProblemsNameTheMessage) {
  const auto chat = jinja_chat_template(
      "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}{{ "
      "m.content "
      "}}{% endfor %}",
      chat_tokenizer());
  try {
    chat.render({{"user", "a"}, {"assistant", "b"}, {"tool", "c"}, {"assistant", "d"}}, false);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_STREQ(error.what(), "the chat template at message 3 (tool): no tools here");
  }
  EXPECT_THROW(jinja_chat_template("{% if %}", chat_tokenizer()), RecipeError);
}

TEST(JinjaChat, CallsOfToolsReachTheTemplateAndAreNotLostInSilence) {
  const auto tokenizer = chat_tokenizer();
  Message call{"assistant", ""};
  call.fields = R"("tool_calls":[{"function":{"name":"f","arguments":{"z":1.50,"a":"<|im_end|>"}}}])";
  call.not_carried = "tool_calls";
  Message user{"user", "a"};
  user.beside = R"("tools":[{"name":"f"}])";
  const auto chat = jinja_chat_template(
      "{{ tools | tojson }}{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% for c in "
      "m.tool_calls "
      "%}{{ c.function.arguments | tojson }}{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt "
      "%}<|im_start|>assistant {% endif %}",
      tokenizer);
  EXPECT_EQ(
      shown(chat.render({user, call}, false)),
      "[{\"name\": \"f\"}]{<|im_start|>}user a{<|im_end|>}{<|im_start|>}assistant 1:{\"z\": 1.50, \"a\": "
      "\"<|im_end|>\"}{<|im_end|>}");
  EXPECT_THROW(jinja_chat_template(kChatml, tokenizer).render({user, call}, false), RecipeError);
  EXPECT_THROW(find_chat_template("chatml")->render({{"user", "a"}, call}, false), RecipeError);
  EXPECT_THROW(find_chat_template("chatml")->render({user, {"assistant", "b"}}, false), RecipeError);
}

TEST(JinjaChat, WhatIsPreparedIsWhatIsRendered) {
  const auto chat = jinja_chat_template(kChatml, chat_tokenizer());
  std::vector<std::vector<Message>> all;
  for (int i = 0; i < 100; ++i)
    all.push_back({{"user", std::to_string(i)}, {"assistant", "x"}, {"user", "b"}, {"assistant", "y"}});
  std::vector<std::string> alone, together;
  for (const auto& messages : all) alone.push_back(shown(chat.render(messages, false)));
  std::vector<const std::vector<Message>*> asked;
  for (const auto& messages : all) asked.push_back(&messages);
  chat.prepare(asked);
  for (const auto& messages : all) together.push_back(shown(chat.render(messages, false)));
  EXPECT_EQ(alone, together);
}

TEST(ChooseChatTemplate, TakesANameAFileAndAText) {
  const auto tokenizer = chat_tokenizer();
  EXPECT_EQ(choose_chat_template({"chatml"}, "", tokenizer).name, "chatml");
  const auto& text = choose_chat_template({kChatml}, "", tokenizer);
  EXPECT_TRUE(text.name.starts_with("jinja-")) << text.name;
  EXPECT_EQ(text.source, kChatml);
  const auto file = std::filesystem::path(testing::TempDir()) / "mine.jinja";
  write_text(file, kChatml);
  EXPECT_EQ(&choose_chat_template({file.string()}, "", tokenizer), &text);
  EXPECT_EQ(&choose_chat_template({}, kChatml, tokenizer), &text);
  for (const auto& wanted : {WantedTemplate{"smolm2"}, WantedTemplate{}, WantedTemplate{"{% if %}"},
                             WantedTemplate{"chatml", {{"enable_thinking", "false"}}},
                             WantedTemplate{kChatml, {{"enable_thinking", "false"}}}})
    EXPECT_THROW(choose_chat_template(wanted, "", tokenizer), RecipeError) << wanted.name;
}

TEST(ChooseChatTemplate, SwitchesAreSetInTheTextThatExportsCarry) {
  const std::string source = "{{ think if think is defined else 'no switch' }}{{ messages[0].content }}";
  const auto& chat = choose_chat_template({source, {{"think", "\"a 'b'\""}}}, "", chat_tokenizer());
  EXPECT_EQ(shown(chat.render({{"user", "x"}}, false)), "a 'b'x");
  EXPECT_EQ(&choose_chat_template({}, chat.source, chat_tokenizer()), &chat);  // as an export reads back
  Message own{"user", "x"};
  own.beside = R"("think":"mine")";
  EXPECT_EQ(shown(chat.render({own}, false)), "minex");  // what a record says goes before
}

// Which one is taken is transformers' choice (tools/peers/check_templates.py compares them).
TEST(JinjaChat, AModelsTemplateForToolsIsTakenWhereARecordHasSome) {
  const auto tokenizer = chat_tokenizer();
  const std::string turns = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
  const std::vector<std::pair<std::string, std::string>> named = {
      {"tool_use", "<s>{{ tools | tojson }}" + turns}, {"rag", "rag{{ mood }}:" + turns}};
  const std::string plain = "plain:" + turns;
  const OwnTemplates own{plain, named};
  std::vector<Message> messages = {{"user", "a"}, {"assistant", "b"}}, with_tools = messages;
  with_tools[0].beside = R"("tools":[{"name":"f"}])";
  const auto text = [&](const WantedTemplate& wanted, const std::vector<Message>& of) {
    return shown(choose_chat_template(wanted, own, tokenizer).render(of, false));
  };
  EXPECT_EQ(text({}, messages), "plain:a{<|im_end|>}1:b{<|im_end|>}");
  EXPECT_EQ(text({}, with_tools), "{<s>}[{\"name\": \"f\"}]a{<|im_end|>}1:b{<|im_end|>}");
  EXPECT_EQ(text({"tool_use"}, messages), "{<s>}nulla{<|im_end|>}1:b{<|im_end|>}");
  EXPECT_EQ(text({"rag", {{"mood", "\"!\""}}}, messages), "rag!:a{<|im_end|>}1:b{<|im_end|>}");
  EXPECT_EQ(text({"default"}, messages), text({}, messages));
  const auto& both = choose_chat_template({}, own, tokenizer);
  EXPECT_EQ(both.source, plain);
  EXPECT_EQ(both.tools_source, named[0].second);
  const std::vector<const std::vector<Message>*> batch = {&messages, &with_tools};
  both.prepare(batch);
  EXPECT_EQ(shown(both.render(with_tools, false)), text({}, with_tools));
  for (const auto& [wanted, said] :
       {std::pair{"ragg", "did you mean 'rag'"}, {"x", "tool_use, rag of the model"}})
    try {
      choose_chat_template({wanted}, own, tokenizer);
      FAIL() << wanted;
    } catch (const RecipeError& error) {
      EXPECT_NE(std::string(error.what()).find(said), std::string::npos) << error.what();
    }
  try {
    choose_chat_template({}, OwnTemplates{"", named}, tokenizer);
    FAIL();
  } catch (const RecipeError& error) {
    EXPECT_NE(std::string(error.what()).find("tool_use, rag"), std::string::npos) << error.what();
  }
}

TEST(ChooseTemplate, AnEncoderOfItsOwnIsABuiltInTemplateWithASwitch) {
  const ByteTokenizer tokenizer({"<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "</think>"});
  const auto name = [&](const WantedTemplate& wanted) {
    return choose_chat_template(wanted, "deepseek-v3.2", tokenizer).name;
  };
  EXPECT_EQ(name({}), "deepseek-v3.2");
  EXPECT_EQ(name({"auto", {{"enable_thinking", "true"}}}), "deepseek-v3.2-thinking");
  EXPECT_EQ(name({"deepseek-v4-thinking", {{"thinking", "false"}}}), "deepseek-v4");
  EXPECT_THROW(name({"auto", {{"mood", "true"}}}), RecipeError);
  EXPECT_THROW(name({"chatml", {{"enable_thinking", "true"}}}), RecipeError);
  EXPECT_TRUE(has_tokens_of(*find_chat_template("deepseek-v3.2"), tokenizer));
  EXPECT_FALSE(has_tokens_of(*find_chat_template("deepseek-v3.2"), chat_tokenizer()));
}

}  // namespace
}  // namespace retort
