// Beginnings of conversations that come out of the run over the whole: the bytes of a run of their own.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/files.h"
#include "base/json.h"
#include "text/chat.h"
#include "text/jinja_messages.h"
#include "text/template_engine.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::vector<std::pair<std::string, std::string>> kTokens = {
    {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}, {"unk_token", "<unk>"}};

std::string shown(const Rendering& rendering) {
  std::string text = rendering.problem.empty() ? "" : "problem: " + rendering.problem;
  for (const auto& part : rendering.parts)
    text += (part.given ? "[" : "(") + part.text + (part.given ? "]" : ")");
  return text;
}

std::string message(const std::string& role, const std::string& content) {
  return "{\"role\":" + json_text(role) + ",\"content\":" + json_text(content) + "}";
}

// The whole, and each beginning with a reply's header and without.
RenderJob all_of(const std::vector<std::string>& messages, const std::string& beside, bool header) {
  RenderJob job{messages, beside, {{static_cast<uint32_t>(messages.size()), header}}};
  for (uint32_t count = 0; count <= messages.size(); ++count)
    for (const bool one : {true, false})
      if (count < messages.size() || one != header) job.wanted.push_back({count, one});
  return job;
}

// Renders in both ways and compares all; how many needed no run of their own.
uint64_t shared_of(const std::string& source, const std::vector<RenderJob>& jobs, const std::string& name) {
  const TemplateEngine shared(source, kTokens), alone(source, kTokens, kTemplateSeconds, Beginnings::alone);
  const auto found = shared.render(jobs), wanted = alone.render(jobs);
  for (size_t j = 0; j < jobs.size(); ++j)
    for (size_t w = 0; w < jobs[j].wanted.size(); ++w)
      EXPECT_EQ(shown(found[j][w]), shown(wanted[j][w]))
          << name << ", conversation " << j << ": " << jobs[j].wanted[w].messages << " of "
          << jobs[j].messages.size() << (jobs[j].wanted[w].reply_header ? " and a header" : "");
  EXPECT_EQ(alone.shared(), 0u);
  return shared.shared();
}

const std::string kUser = message("user", "What is 2 < 3? <|im_end|>"),
                  kOther = message("user", "And \"é\"\n\n?"), kSystem = message("system", "Be brief.\n"),
                  kAnswer = message("assistant", "Yes.\n"), kLast = message("assistant", " It's a city ");
const std::string kThinks = R"({"role":"assistant","content":"Yes.","reasoning_content":"2 is\nless"})";
const std::string kInside = message("assistant", "<think>\n2 is less\n</think>\n\nYes.");
const std::string kCalls =
    R"({"role":"assistant","content":"","tool_calls":[{"id":"call00001","type":"function","function":)"
    R"({"name":"look","arguments":{"z":1.50,"a":"<b>"}}}]})";
const std::string kResult =
    R"({"role":"tool","tool_call_id":"call00001","name":"look","content":"{\"x\": 21}"})";
const std::string kTools =
    R"("tools":[{"type":"function","function":{"name":"look","description":"Looks","parameters":)"
    R"({"type":"object","properties":{"z":{"type":"number","description":"how far"}},"required":["z"]}}}])";

std::vector<RenderJob> conversations() {
  const std::vector<std::pair<std::vector<std::string>, std::string>> all = {
      {{kUser}, ""},
      {{kUser, kAnswer}, ""},
      {{kUser, kAnswer, kOther, kLast}, ""},
      {{kSystem, kUser, kAnswer, kOther, kLast, kUser}, ""},
      {{kAnswer, kUser}, ""},
      {{kUser, kOther, kAnswer}, ""},
      {{kUser, kThinks, kOther, kThinks, kUser}, ""},
      {{kUser, kInside, kOther, kInside}, R"("enable_thinking":false)"},
      {{kUser, kThinks, kOther, kInside}, R"("enable_thinking":true)"},
      {{kUser, kAnswer}, kTools},
      {{kSystem, kUser, kCalls, kResult, kAnswer}, kTools},
      {{kUser, kCalls, kResult, kResult, kCalls, kResult, kLast, kOther, kCalls, kResult, kAnswer}, kTools},
      {{kUser, kAnswer, kOther, kLast}, R"("add_generation_prompt":true)"},
  };
  std::vector<RenderJob> jobs;
  for (const auto& [messages, beside] : all)
    for (const bool header : {false, true}) jobs.push_back(all_of(messages, beside, header));
  return jobs;
}

TEST(TemplateTurns, EveryPublishedTemplateWritesTheSameBytes) {
  const auto folder = std::filesystem::path(source_dir()) / "third_party/jinja/templates";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is missing: tools/setup fetches it";
  const auto jobs = conversations();
  int templates = 0, sharing = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    ++templates;
    sharing += shared_of(read_text(file.path()), jobs, file.path().filename().string()) > 0;
  }
  EXPECT_GE(templates, 70);
  EXPECT_GE(sharing, templates / 3);
}

TEST(TemplateTurns, TemplatesOfOursWriteTheSameBytesOfTheGoldenConversations) {
  const auto golden = read_json(std::string(source_dir()) + "/tests/golden/chat/rendered.json");
  std::vector<RenderJob> jobs;
  for (const auto& dialogue : golden["dialogues"]) {
    std::vector<std::string> messages;
    for (const auto& one : dialogue) messages.push_back(message(one["role"], one["content"]));
    for (const bool header : {false, true}) jobs.push_back(all_of(messages, "", header));
  }
  uint64_t shared = 0;
  for (const auto& chat : chat_templates()) {
    const std::string source(chat_template_source(chat.name, true));
    if (!source.empty()) shared += shared_of(source, jobs, chat.name);
  }
  EXPECT_GT(shared, 0u);
}

// Of user, assistant, user, assistant: what training asks for.
const std::vector<std::string> kTalk = {kUser, kAnswer, kOther, kLast};
uint64_t shared_of_talk(const std::string& source, const std::vector<std::string>& messages = kTalk,
                        const std::string& beside = "") {
  RenderJob job{messages, beside, {{static_cast<uint32_t>(messages.size()), false}}};
  for (uint32_t i = 0; i < messages.size(); ++i) {
    if (messages[i].find("\"assistant\"") == std::string::npos) continue;
    job.wanted.push_back({i, true});
    if (i + 1 < messages.size()) job.wanted.push_back({i + 1, false});
  }
  return shared_of(source, {job}, source);
}

const std::string kHeader = "{% if add_generation_prompt %}<assistant>{% endif %}";

TEST(TemplateTurns, OneRunIsEnoughWhereNothingDependsOnWhatComesLater) {
  EXPECT_EQ(shared_of_talk("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" + kHeader), 3u);
  EXPECT_EQ(
      shared_of_talk("{% set all = messages %}{% if all[0].role == 'system' %}{{ all[0].content }}{% set "
                     "all = all[1:] %}{% endif %}{% for m in all %}{% if loop.first or all[loop.index0 - "
                     "1].role != m.role %}<{{ m['role'] }}>{% endif %}{{ m.content }}{% endfor %}" +
                         kHeader,
                     {kSystem, kUser, kAnswer, kOther, kLast}),
      3u);
  // What stands at the end may look at the last of the messages that it is given.
  EXPECT_EQ(
      shared_of_talk("{% for m in messages %}{{ m.content }}{% endfor %}{% if messages[-1].role == 'user' "
                     "and add_generation_prompt %}<assistant>{% endif %}"),
      3u);
  EXPECT_EQ(
      shared_of_talk("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false "
                     "%}{% endif %}{% for m in messages %}{{ m.content }}{% endfor %}" +
                     kHeader),
      3u);
}

TEST(TemplateTurns, ATurnThatLooksAtItsEndIsRunAgainAsTheLast) {
  EXPECT_EQ(
      shared_of_talk("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% if loop.last %}!{% endif %}{% "
                     "endfor %}" +
                     kHeader),
      3u);
  EXPECT_EQ(shared_of_talk("{% for m in messages %}{{ m.content }}{% if not messages[loop.index0 + 1] or "
                           "messages[loop.index0 + 1].role != m.role %}!{% endif %}{% endfor %}" +
                           kHeader),
            3u);
  // Unless a turn leaves something behind, which a second run would leave twice.
  EXPECT_EQ(
      shared_of_talk("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n "
                     "}}{{ m.content }}{% if loop.last %}!{% endif %}{% endfor %}" +
                     kHeader),
      0u);
  EXPECT_EQ(
      shared_of_talk("{% set ns = namespace(n=0) %}{% macro step() %}{% set ns.n = ns.n + 1 %}{% endmacro "
                     "%}{% for m in messages %}{{ step() }}{{ ns.n }}{{ m.content }}{% if loop.last %}!{% "
                     "endif %}{% endfor %}" +
                     kHeader),
      0u);
}

// How many are shared: that of one message, whose only turn is its last, may be.
TEST(TemplateTurns, WhatDependsOnLaterMessagesIsRunAlone) {
  const std::pair<const char*, uint64_t> all[] = {
      {"{% for m in messages %}{{ m.content }} of {{ messages | length }}{% endfor %}", 0},
      {"{% for m in messages %}{{ m.content }} of {{ loop.length }}{% endfor %}", 1},
      {"{% for m in messages %}{{ loop.revindex }}{{ m.content }}{% endfor %}", 1},
      {"{% for m in messages %}{{ m.content }}{{ messages[-1].content }}{% endfor %}", 1},
      {"{% set last = messages[-1] %}{% for m in messages %}{{ m.content }}{{ last.role }}{% endfor %}", 0},
      {"{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = loop.index %}{% endfor %}"
       "{% for m in messages %}{{ ns.n }}{{ m.content }}{% endfor %}",
       0},
      {"{% macro all() %}{{ messages | tojson }}{% endmacro %}{% for m in messages %}{{ all() }}{% endfor %}",
       0},
      {"{% for m in messages %}{{ m.content }}{% endfor %}{{ messages | tojson }}", 0},
      {"{% for m in messages %}{{ m.content }}{% if add_generation_prompt %}!{% endif %}{% endfor %}", 1},
      {"{% set ns = namespace(n=0) %}{% for m in messages %}{{ m.content }}{% endfor %}{% set ns.n = 1 %}",
       0},
      {"{% set list = [] %}{% for m in messages %}{% set _ = list.append(m) %}{% endfor %}{% for m in list %}"
       "{{ m.content }}{{ loop.last }}{% endfor %}",
       0},
  };
  for (const auto& [source, shared] : all) EXPECT_EQ(shared_of_talk(source), shared) << source;
  // What stands before the loop is written again for fewer messages.
  EXPECT_EQ(shared_of_talk("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"), 3u);
}

// A list that is cut, renamed, kept in a namespace and given to a macro is the same list.
TEST(TemplateTurns, MessagesAreWatchedUnderEveryName) {
  const std::pair<const char*, uint64_t> all[] = {
      {"{% set all = messages %}{{ all | length }}", 0},
      {"{% set ns = namespace(all=messages) %}{{ ns.all | length }}", 0},
      {"{% set rest = messages[1:] %}{{ rest[-1].role }}", 0},
      {"{{ messages[0:9] | length }}", 1},
      {"{{ (messages or []) | length }}", 0},
      {"{% for x in messages[1:] %}.{% endfor %}", 1},
      {"{{ messages ~ '' }}", 0},
      {"{{ m in messages }}", 0},
      {"{{ messages | map(attribute='role') | join }}", 0},
      {"{{ {'x': messages} | tojson }}", 0},
      {"{{ messages[-1:] | length }}", 0},
      {"{{ messages[::2] | length }}", 0},
      {"{{ messages | last }}", 0},
      {"{{ (messages + []) | length }}", 0},
      {"{{ loop['last'] }}{{ loop.length }}", 1},
  };
  const std::string loop = "{% for m in messages %}{{ m.content }}";
  for (const auto& [look, shared] : all)
    EXPECT_EQ(shared_of_talk(loop + look + "{% endfor %}"), shared) << look;
  EXPECT_EQ(shared_of_talk("{% macro ends(all) %}{{ all | length }}{% endmacro %}" + loop +
                           "{{ ends(messages) }}{% endfor %}"),
            0u);
}

// As Qwen 3: what stands before the loop finds the last question. Where that is the same for fewer messages,
// a beginning is shared.
TEST(TemplateTurns, WhatIsFoundBeforeTheLoopIsFoundAgainWithFewerMessages) {
  const std::string source =
      "{% set ns = namespace(last=0) %}{% for m in messages[::-1] %}{% if m.role == 'user' and ns.last == 0 "
      "%}{% "
      "set ns.last = messages | length - loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}<{{ "
      "m.role "
      "}}>{% if loop.index > ns.last %}!{% endif %}{{ m.content }}{% endfor %}" +
      kHeader;
  EXPECT_EQ(shared_of_talk(source, {kSystem, kUser, kCalls, kResult, kAnswer}), 3u);
  EXPECT_EQ(shared_of_talk(source), 1u);  // that which ends with the last question
}

TEST(TemplateTurns, WhatARecordSetsItselfCounts) {
  const std::string source = "{% for m in messages %}{{ m.content }}{% endfor %}" + kHeader;
  EXPECT_EQ(shared_of_talk(source, kTalk, R"("add_generation_prompt":true)"), 0u);
  EXPECT_EQ(shared_of_talk(source, kTalk, R"("messages":[{"role":"user","content":"x"}])"), 0u);
}

TEST(TemplateTurns, ATemplateThatFailsSaysTheSame) {
  for (const char* source :
       {"{% for m in messages %}{% if loop.index == 3 %}{{ raise_exception('no third') }}{% endif %}{{ "
        "m.content "
        "}}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ "
        "raise_exception('no header') }}{% endif %}",
        "{% for m in messages %}{{ m.content + 1 }}{% endfor %}",
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if loop.index == 2 %}{% continue %}{% endif %}{{ m.content }}{% endfor "
        "%}"})
    shared_of_talk(source);
}

// However long a conversation is.
TEST(TemplateTurns, ThreeHundredAnswersAreOneRun) {
  std::vector<std::string> messages;
  for (int i = 0; i < 300; ++i) {
    messages.push_back(kUser);
    messages.push_back(kAnswer);
  }
  EXPECT_EQ(
      shared_of_talk("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}" + kHeader, messages),
      599u);
}

TEST(JsonText, IsWhatTheLibraryWrites) {
  std::vector<std::string> texts = {
      "", "a \"b\" \\ / \x7f é 日本 🙂", "\xff", "a\xc3", "\xed\xa0\x80", "\xf4\x90\x80\x80"};
  for (int c = 0; c < 256; ++c) texts.push_back(std::string(1, static_cast<char>(c)) + "x");
  for (const auto& text : texts)
    EXPECT_EQ(json_text(text), Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace
}  // namespace retort
