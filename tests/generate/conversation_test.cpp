// SmolLM2 itself: a conversation over a kept cache, and batches, say what a single text computed from nothing
// says.
#include "generate/conversation.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/stop.h"
#include "generate/generate.h"
#include "smollm2.h"

namespace retort {
namespace {

class SmolLM2Says : public WithSmolLM2<testing::Test> {
 protected:
  SmolLM2Says() { sample.max_tokens = 12; }
  std::vector<int32_t> prompt(const std::vector<Message>& messages) const {
    return render_tokens(*loaded->chat, *loaded->tokenizer, messages, true).tokens;
  }
  Writer writer(const GenerateSpec& how = {}) const {
    return {*loaded->model, *loaded->tokenizer, at::kFloat, how};
  }
  AnswerRules rules() const {
    return {sample, stop_rules(loaded->model->config, *loaded->tokenizer, loaded->chat, sample)};
  }
  std::vector<Answer> alone(const std::vector<std::vector<int32_t>>& prompts) const {
    return generate(writer(), prompts, rules());
  }
  Conversation conversation() const { return Conversation(writer(), *loaded->chat, sample); }
  // After an answer to "Count to ten." that was stopped: it counts as the answer, and a stop before the next
  // one leaves no token.
  void goes_on_behind(Conversation& talk, const Answer& cut) {
    const auto next = talk.say("Go on.");
    EXPECT_EQ(
        next.tokens,
        alone({prompt({{"user", "Count to ten."}, {"assistant", cut.text}, {"user", "Go on."}})})[0].tokens);
    request_stop();
    const auto stopped = talk.say("More.");
    forget_stop();
    EXPECT_EQ(stopped.finish, Finish::interrupted);
    EXPECT_TRUE(stopped.tokens.empty());
  }

  SampleSpec sample;
};

TEST_F(SmolLM2Says, AConversationSaysWhatItsWholeTextSays) {
  auto talk = conversation();
  const auto first = talk.say("Name a fruit.");
  EXPECT_EQ(first.tokens, alone({prompt({{"user", "Name a fruit."}})})[0].tokens);
  const auto before = talk.tokens();
  const auto second = talk.say("And a colour?");
  EXPECT_GE(talk.reused_tokens(), before - 1);  // everything but, perhaps, the last token of the cut answer
  EXPECT_EQ(
      second.tokens,
      alone({prompt({{"user", "Name a fruit."}, {"assistant", first.text}, {"user", "And a colour?"}})})[0]
          .tokens);
  EXPECT_EQ(talk.messages().back().content, second.text);

  talk.reset("You are a pirate.");
  EXPECT_EQ(talk.say("Hello!").tokens,
            alone({prompt({{"system", "You are a pirate."}, {"user", "Hello!"}})})[0].tokens);
}

// A cache of 8 bits changes what is drawn sooner or later.
TEST_F(SmolLM2Says, AConversationKeepsItsCacheAsItIsTold) {
  sample.temperature = 1.5, sample.max_tokens = 60;
  const auto says = [&](const std::string& kv) {
    return Conversation(writer({.kv = kv}), *loaded->chat, sample).say("Tell me a story.").tokens;
  };
  EXPECT_EQ(says("f32"), says("auto"));
  EXPECT_NE(says("f32"), says("int8"));
}

TEST_F(SmolLM2Says, AStoppedAnswerCountsAsTheAnswer) {
  auto talk = conversation();
  int pieces = 0;
  const auto cut = talk.say("Count to ten.", [&](std::string_view) { return ++pieces < 3; });
  EXPECT_EQ(cut.finish, Finish::interrupted);
  EXPECT_LT(cut.tokens.size(), 12u);
  goes_on_behind(talk, cut);
}

// A step of a model that is read layer by layer is long: a stop ends it in its middle.
TEST_F(SmolLM2Says, AModelInItsFileHoldsTheSameConversation) {
  const auto in_file =
      load_model({.path = loaded->path.string(), .compute = "f32", .schedule = "layers", .memory = "16MiB"});
  ASSERT_NE(in_file.model->stream(), nullptr);
  sample.max_tokens = 4;
  Conversation talk({*in_file.model, *in_file.tokenizer, at::kFloat, {}}, *loaded->chat, sample);
  auto resident = conversation();
  EXPECT_EQ(talk.say("Name a fruit.").tokens, resident.say("Name a fruit.").tokens);
  EXPECT_EQ(talk.say("And a colour?").tokens, resident.say("And a colour?").tokens);
  EXPECT_EQ(talk.tokens(), resident.tokens());
  EXPECT_EQ(talk.reused_tokens(), resident.reused_tokens());

  talk.reset();
  const auto cut = talk.say("Count to ten.", [](std::string_view) {
    request_stop();
    return true;
  });
  forget_stop();
  EXPECT_EQ(cut.finish, Finish::interrupted);
  EXPECT_GT(cut.tokens.size(), 0u);
  goes_on_behind(talk, cut);
  EXPECT_FALSE(talk.say("Still there?").tokens.empty());
}

TEST_F(SmolLM2Says, AFullContextIsRefusedAndForgotten) {
  auto talk = conversation();
  talk.say("Hi.");
  std::string long_text;
  for (int i = 0; i < 9000; ++i) long_text += "word ";
  EXPECT_THROW(talk.say(long_text), RecipeError);
  EXPECT_EQ(talk.messages().size(), 2u);
  EXPECT_FALSE(talk.say("Still there?").tokens.empty());
}

// Eight prompts with shared beginnings, two of them equal, in one batch.
TEST_F(SmolLM2Says, ABatchSaysWhatEachPromptAloneSays) {
  std::vector<std::vector<int32_t>> prompts;
  for (const char* word : {"cat", "dog", "cat", "sea", "sun", "a list of things that are green"})
    prompts.push_back(prompt({{"user", std::string("Tell me about ") + word}}));
  prompts.push_back(prompt({{"system", "Be brief."}, {"user", "Hello"}}));
  const auto together = alone(prompts);
  // Two at a time on one thread: each takes the place of one that has ended.
  const auto in_turn = generate(writer({.threads = 1, .batch = 2}), prompts, rules());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto expected = alone({prompts[i]})[0].tokens;
    EXPECT_EQ(together[i].tokens, expected) << i;
    EXPECT_EQ(in_turn[i].tokens, expected) << i;
  }
}

// Draws are keyed by the number of the answer: a part of a batch gives what the whole gives, and equal
// prompts differ.
TEST_F(SmolLM2Says, DrawsDoNotDependOnTheBatch) {
  sample.temperature = 1;
  const auto one = prompt({{"user", "Invent a name."}});
  const auto all = alone({one, one, one});
  EXPECT_NE(all[0].tokens, all[1].tokens);
  const auto part = generate(writer(), {one, one}, rules(), nullptr, 1);
  EXPECT_EQ(part[0].tokens, all[1].tokens);
  EXPECT_EQ(part[1].tokens, all[2].tokens);
}

}  // namespace
}  // namespace retort
