#include "text/template_engine.h"

#include <gtest/gtest.h>

#include <chrono>

#include "base/error.h"
#include "base/files.h"
#include "text/byte_tokenizer.h"
#include "text/jinja_chat.h"

namespace retort {
namespace {

constexpr const char* kHello = R"({"role":"user","content":"hello"})";

Rendering rendered(const TemplateEngine& engine, std::vector<std::string> messages = {kHello},
                   std::string beside = "", bool header = false) {
  const auto count = static_cast<uint32_t>(messages.size());
  const RenderJob job{std::move(messages), std::move(beside), {{count, header}}};
  return engine.render(std::span(&job, 1))[0][0];
}

std::string text_of(const Rendering& rendering) {
  std::string text = rendering.problem.empty() ? "" : "problem: " + rendering.problem;
  for (const auto& part : rendering.parts) text += part.given ? "[" + part.text + "]" : part.text;
  return text;
}

TEST(TemplateEngine, SaysWhatOfATextWasGiven) {
  const TemplateEngine engine(
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}",
      {{"bos_token", "<s>"}});
  EXPECT_EQ(text_of(rendered(engine, {R"({"role":"user","content":" <|end|> "})"}, "", true)),
            "<s><|user|>[<|end|>]<|assistant|>");
}

// What goes through filters, JSON and lists is still the record's: else a user's text could become control.
TEST(TemplateEngine, GivenTextStaysGiven) {
  for (const char* way :
       {"{{ messages[0].content | tojson }}", "{{ messages | tojson }}",
        "{{ messages[0].content.split('x')[0] }}", "{{ ('a' ~ messages[0].content) | replace('a', 'b') }}",
        "{{ [messages[0].content, 'b'] | join(',') }}", "{{ messages[0].content[0] }}",
        "{{ 'a' ~ messages[0] }}", "{{ messages[0] | string }}", "{{ ('ab' ~ messages[0].content)[1:] }}",
        "{% set t %}{{ messages[0].content }}{% endset %}{{ t }}",
        "{% for k, v in messages[0].extra.items() %}{{ k }}{% endfor %}"}) {
    const TemplateEngine engine(way, {});
    const auto rendering =
        rendered(engine, {R"({"role":"user","content":"<|end|>x","extra":{"<|end|>":1}})"});
    ASSERT_EQ(rendering.problem, "") << way;
    std::string own;
    for (const auto& part : rendering.parts)
      if (!part.given) own += part.text;
    EXPECT_EQ(own.find('<'), std::string::npos) << way << ": " << text_of(rendering);
  }
}

TEST(TemplateEngine, KeepsTheOrderOfKeysAndTheSpellingOfNumbers) {
  const TemplateEngine engine("{{ tools | tojson }} {{ messages[0].price }}", {});
  EXPECT_EQ(text_of(rendered(
                engine, {R"({"role":"user","content":"","price":1.50})"},
                R"("tools":[{"z":1.50,"a":12345678901234567890123,"m":-0.0,"n":18446744073709551615}])")),
            R"([[{"z": 1.50, "a": 12345678901234567890123, "m": -0.0, "n": 18446744073709551615}]] 1.50)");
}

TEST(TemplateEngine, HostileTemplatesAreOneProblemEach) {
  const std::pair<std::string, const char*> all[] = {
      {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
       "took more than 1 seconds"},
      {"{% set ns = namespace(t='x') %}{% for i in range(64) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ "
       "ns.t }}",
       "needs more memory"},
      {"{{ range(1000000000) | length }}", "needs more memory"},
      {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself without end"},
      {"{{ raise_exception('no such role') }}", "no such role"},
      {"{{ 1 + none }}", "Cannot perform operation on null values"},
      {"{% if %}", "cannot be read as Jinja"},
      {"{{ 'x' * 100000000 }}", ""},
  };
  for (const auto& [source, problem] : all) {
    const TemplateEngine engine(source, {}, source.starts_with("{% for") ? 1 : kTemplateSeconds);
    const auto found = rendered(engine);
    EXPECT_NE(found.problem, "") << source;
    EXPECT_NE(found.problem.find(problem), std::string::npos) << source << ": " << found.problem;
    EXPECT_EQ(found.problem.find('\n'), std::string::npos) << found.problem;
  }
  // Chains that no bracket shows end the child, and nothing else.
  std::string nots = "{{ ", sums = "{{ 1";
  for (int i = 0; i < 200000; ++i) nots += "not ", sums += "+1";
  for (const auto& source : {nots + "true }}", sums + " }}"}) {
    const TemplateEngine engine(source, {});
    EXPECT_NE(rendered(engine).problem.find("stack"), std::string::npos) << rendered(engine).problem;
  }
}

TEST(TemplateEngine, NestingIsCountedBeforeItIsRead) {
  const auto nested = [](const std::string& open, const std::string& close, int levels) {
    std::string source;
    for (int i = 0; i < levels; ++i) source += open;
    for (int i = 0; i < levels; ++i) source += close;
    return source;
  };
  for (const int levels : {201, 200000}) {
    EXPECT_THROW(TemplateEngine("{{ " + nested("(", ")", levels) + " }}", {}), RecipeError);
    EXPECT_THROW(TemplateEngine("{{ " + nested("[", "]", levels) + " }}", {}), RecipeError);
  }
  EXPECT_THROW(TemplateEngine(nested("{% if 1 %}", "{% endif %}", 201), {}), RecipeError);
  EXPECT_THROW(TemplateEngine(std::string(kLongestTemplate + 1, 'x'), {}), RecipeError);
  EXPECT_EQ(text_of(rendered(
                TemplateEngine("{{ " + std::string(150, '(') + "1" + std::string(150, ')') + " }}", {}))),
            "1");
}

// One that fails takes no other with it, whether the template refuses it or its process dies.
TEST(TemplateEngine, ABadConversationIsTheOnlyOneWithAProblem) {
  const TemplateEngine engine(
      "{% macro f() %}{{ f() }}{% endmacro %}{% if messages[0].content == 'crash' %}{{ f() }}{% endif %}"
      "{% if messages[0].content == 'raise' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content "
      "}}",
      {});
  std::vector<RenderJob> jobs;
  for (const char* word : {"a", "crash", "b", "raise", "crash", "c"})
    jobs.push_back({{fmt::format(R"({{"role":"user","content":"{}"}})", word)}, "", {{1, false}, {1, true}}});
  const auto all = engine.render(jobs);
  std::string said;
  for (const auto& one : all)
    for (const auto& rendering : one)
      said += rendering.problem.empty() ? text_of(rendering) : rendering.problem == "no" ? "!" : "#";
  EXPECT_EQ(said, "[a][a]##[b][b]!!##[c][c]");
}

TEST(TemplateEngine, NothingOfAConversationStaysForTheNext) {
  const TemplateEngine engine("{{ messages | length }}{{ x | default('none') }}", {});
  EXPECT_EQ(text_of(rendered(engine, {kHello, kHello}, R"("x":"1")")), "2[1]");
  EXPECT_EQ(text_of(rendered(engine)), "1none");
}

// Values are shared between the renderings of a conversation, and tools with the record behind; a template
// that may change them gets its own.
TEST(TemplateEngine, WhatIsGivenIsNotChanged) {
  const std::string tools = R"("tools":[{"name":"f","x":[1.50,{"y":"\u00e9"}]}])";
  const TemplateEngine json("{{ tools | tojson }}{{ tools[0].x | tojson }}", {});
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(text_of(rendered(json, {kHello}, tools)),
              "[[{\"name\": \"f\", \"x\": [1.50, {\"y\": \"é\"}]}][1.50, {\"y\": \"é\"}]]");
  const TemplateEngine grows("{% set _ = tools[0].x.append(2) %}{{ tools[0].x | length }}", {});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(text_of(rendered(grows, {kHello}, tools)), "3");
  for (const char* source : {"{% set tools[0].x = 1 %}", "{% set t = tools[0] %}{% set t.x = 1 %}{{ t.x }}",
                             "{{ tools[0].x['app' ~ 'end'](1) }}"})
    EXPECT_NE(rendered(TemplateEngine(source, {}), {kHello}, tools).problem, "") << source;
}

}  // namespace
}  // namespace retort
