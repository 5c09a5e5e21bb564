// Rows and answers from a server whose model is known by hand: after token t come t+1, t+2, t+3 with
// probabilities 1/2, 1/4, 1/8.
#include "http/openai.h"

#include <filesystem>

#include "base/files.h"
#include "http/loopback_server.h"
#include "models/model.h"
#include "text/byte_tokenizer.h"  // tests/text
#include "where.h"                // tests

namespace retort {
namespace {

ByteTokenizer bytes_with_specials() { return ByteTokenizer({"<|im_start|>", "<|im_end|>", "<s>"}); }
constexpr int32_t kBos = 258;

Sample sample_of(std::vector<int32_t> tokens, std::string id = "x.jsonl:1") {
  Sample sample{std::move(tokens), {}, std::move(id)};
  sample.weights.assign(sample.tokens.size(), 1.0f);
  return sample;
}
Sample text_sample(std::string_view text) { return sample_of({text.begin(), text.end()}); }

TeacherSpec spec_of(const LoopbackServer& server) {
  TeacherSpec spec;
  spec.url = server.url();
  spec.server.tries = 4;
  spec.server.first_wait = 0.01;
  return spec;
}

void expect_rule(const Sample& sample, const std::vector<TopRow>& rows, size_t first, int64_t top,
                 int32_t vocabulary = 259) {
  ASSERT_EQ(rows.size(), sample.tokens.size());
  for (size_t i = first; i + 1 < sample.tokens.size(); ++i) {
    ASSERT_EQ(rows[i].ids.size(), static_cast<size_t>(top)) << i;
    for (int32_t j = 0; j < top; ++j) {
      EXPECT_EQ(rows[i].ids[static_cast<size_t>(j)], (sample.tokens[i] + 1 + j) % vocabulary) << i;
      EXPECT_FLOAT_EQ(rows[i].log_p[static_cast<size_t>(j)], static_cast<float>((j + 1) * std::log(0.5)))
          << i;
    }
  }
}

TEST(OpenAiTeacher, ScoresByTokenIdsInBatches) {
  const LoopbackServer server;
  const auto tokenizer = bytes_with_specials();
  auto spec = spec_of(server);
  spec.server.batch = 3;
  OpenAiTeacher teacher(spec, tokenizer);
  EXPECT_EQ(teacher.model(), "toy");  // the only one
  std::vector<Sample> samples;
  for (int32_t s = 0; s < 8; ++s) samples.push_back(sample_of({256, 10 + s, 97, 98, 120 + s, 257}));
  const auto rows = teacher.score(samples, 3);
  for (size_t s = 0; s < samples.size(); ++s) expect_rule(samples[s], rows[s], 0, 3);
  EXPECT_EQ(server.posts(), 4u);  // one to find out, then 7 texts, three at a time
  EXPECT_EQ(server.requests().back().at("body").at("prompt").size() +
                server.requests().at(2).at("body").at("prompt").size() +
                server.requests().at(3).at("body").at("prompt").size(),
            7u);
}

// vLLM names a token that ends inside a character "" or, in its context, the whole character.
TEST(OpenAiTeacher, HalvesOfCharactersAreNamedInTheirContext) {
  const LoopbackServer server;
  const auto tokenizer = bytes_with_specials();
  OpenAiTeacher teacher(spec_of(server), tokenizer);
  std::vector<int32_t> tokens;
  for (const char c : std::string_view("na\u00efve \u65e5\u672c \U0001F41D!"))
    tokens.push_back(static_cast<unsigned char>(c));
  const std::vector<Sample> samples = {sample_of(tokens)};
  const auto rows = teacher.score(samples, 3);
  expect_rule(samples[0], rows[0], 0, 3);
  EXPECT_FALSE(server.requests().back().at("body").contains("echo"));
}

// A reply of vLLM itself (tools/golden/vllm_reply.py), with SmolLM2's tokens.
TEST(OpenAiTeacher, ReadsWhatVllmAnswers) {
  const auto root = std::filesystem::path(source_dir());
  const auto model = root / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is absent: run tools/setup";
  const auto golden = Json::parse(read_text(root / "tests/golden/http/vllm_prompt_logprobs.json"));
  const auto tokenizer = load_model({.path = model.string()}).tokenizer;
  const TokenNames names(*tokenizer);
  const auto sample = sample_of(golden.at("tokens").get<std::vector<int32_t>>());
  EXPECT_EQ(tokenizer->encode(golden.at("text").get<std::string>()), sample.tokens);
  const auto rows = rows_of_prompt_logprobs(golden.at("reply").at("choices").at(0), sample, 3, names, "vLLM");
  ASSERT_EQ(rows.size(), sample.tokens.size());
  EXPECT_EQ(rows[0].ids,
            (std::vector<int32_t>{9690, 817, 18403}));  // the token that stands there is the 36,730th
  EXPECT_NEAR(rows[0].log_p[1], -8.4565, 1e-4);
  EXPECT_EQ(rows[2].ids, (std::vector<int32_t>{23088, 179, 16313}));  // its own token is the second
  EXPECT_TRUE(rows.back().ids.empty());
}

TEST(OpenAiTeacher, ScoresByEchoedTextWhereIdsAreNotUnderstood) {
  const LoopbackServer server(Json{{"kind", "llama"}});
  const auto tokenizer = bytes_with_specials();
  OpenAiTeacher teacher(spec_of(server), tokenizer);
  const std::vector<Sample> samples = {text_sample("hello there"), text_sample("abcabc")};
  const auto rows = teacher.score(samples, 3);
  for (size_t s = 0; s < samples.size(); ++s) expect_rule(samples[s], rows[s], 0, 3);
}

// As llama-cpp-python does for models with a BOS: the server adds it and leaves it out of the list.
TEST(OpenAiTeacher, ABosThatTheServerAddsAndHidesIsMatched) {
  const LoopbackServer server(Json{{"kind", "llama"}, {"bos", kBos}});
  auto tokenizer = bytes_with_specials();
  tokenizer.bos = kBos;
  tokenizer.add_bos = true;
  OpenAiTeacher teacher(spec_of(server), tokenizer);
  const std::vector<Sample> samples = {sample_of({kBos, 104, 101, 108, 108, 111})};
  const auto rows = teacher.score(samples, 2);
  EXPECT_TRUE(rows[0][0].ids.empty());  // the first listed token has no distribution
  expect_rule(samples[0], rows[0], 1, 2);
  EXPECT_EQ(server.requests().back().at("body").at("prompt"), "hello");
}

TEST(OpenAiTeacher, DistributionsBesideTheWrongTokensAreNoticed) {
  const LoopbackServer server(Json{{"kind", "llama"}, {"shifted", true}});
  const auto tokenizer = bytes_with_specials();
  OpenAiTeacher teacher(spec_of(server), tokenizer);
  const std::vector<Sample> samples = {text_sample("hello")};
  EXPECT_NE(error_of([&] {
              teacher.score(samples, 3);
            }).find("the server pairs tokens with the distributions after them"),
            std::string::npos);
}

// Without a generated token behind it a reply shows nothing; a beginning of the text does.
TEST(OpenAiTeacher, AReplyThatShowsNothingIsCheckedWithABeginning) {
  const auto tokenizer = bytes_with_specials();
  const TokenNames names(tokenizer);
  const auto sample = text_sample("ab");
  const Json quiet = {{"text", "ab"},
                      {"logprobs", {{"tokens", {"a", "b"}}, {"top_logprobs", {nullptr, {{"b", -0.1}}}}}}};
  const auto found = rows_of_echo(quiet, {sample, "ab"}, 2, names, "server");
  EXPECT_FALSE(found.checked);
  EXPECT_TRUE(found.leading);
  Json wrong = quiet;
  wrong["text"] = "abc";
  wrong["logprobs"]["tokens"].push_back("c");
  wrong["logprobs"]["top_logprobs"].push_back({{"x", -0.1}, {"c", -3.0}});
  EXPECT_NE(error_of([&] {
              rows_of_echo(wrong, {sample, "ab"}, 2, names, "server");
            }).find("is not the likeliest of its row"),
            std::string::npos);
}

TEST(OpenAiTeacher, OtherTokensAreNamed) {
  const auto tokenizer = bytes_with_specials();
  const TokenNames names(tokenizer);
  const auto sample = text_sample("abc");
  const Json merged = {{"text", "abc"},
                       {"logprobs", {{"tokens", {"a", "bc"}}, {"top_logprobs", {nullptr, {{"bc", -0.1}}}}}}};
  EXPECT_EQ(error_of([&] {
              rows_of_echo(merged, {sample, "abc"}, 2, names, "server");
            }),
            "2: teacher: the server cuts x.jsonl:1 into other tokens than the student: token 2 is 'bc' there "
            "and 'b' here; a teacher with other tokens can write answers instead (teacher.answers)");
  const auto entry = [](const char* id, const char* text) {
    return Json{{id, {{"logprob", -0.5}, {"decoded_token", text}}}};
  };
  EXPECT_NE(error_of([&] {
              rows_of_prompt_logprobs({{"prompt_logprobs", {nullptr, entry("98", "b"), entry("99", "zz")}}},
                                      sample, 2, names, "server");
            }).find("the server's token 99 is 'zz', the student's 'c'"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              rows_of_prompt_logprobs({{"prompt_logprobs", {nullptr, entry("98", "b"), entry("4000", "q")}}},
                                      sample, 2, names, "server");
            }).find("the server's token 4000 is 'q', the student's 'is none'"),
            std::string::npos);
  // Rows of padding behind the tokens have no text.
  const auto padded = rows_of_prompt_logprobs({{"prompt_logprobs",
                                                {nullptr,
                                                 {{"98", {{"logprob", -1.0}, {"decoded_token", "b"}}},
                                                  {"4000", {{"logprob", -0.5}, {"decoded_token", ""}}}},
                                                 entry("99", "c")}}},
                                              sample, 2, names, "server");
  EXPECT_EQ(padded[0].ids, std::vector<int32_t>{98});
  EXPECT_NE(error_of([&] {
              rows_of_prompt_logprobs(
                  {{"prompt_logprobs", {nullptr, entry("98", "b"), {{"4000", {{"logprob", -0.5}}}}}}}, sample,
                  2, names, "server");
            }).find("the server's token 4000 is 'another one'"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              rows_of_prompt_logprobs({{"prompt_logprobs", {nullptr, entry("98", "b")}}}, sample, 2, names,
                                      "server");
            }).find("expected one entry for each of the 3 tokens of x.jsonl:1, found 2"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              rows_of_prompt_logprobs({{"prompt_logprobs", {nullptr, entry("98", "b"), {{"x", 1}}}}}, sample,
                                      2, names, "server");
            }).find("expected token ids with a logprob"),
            std::string::npos);
}

TEST(OpenAiTeacher, AWrongModelNameIsFoundBeforeAnythingIsAsked) {
  const LoopbackServer server(Json{{"models", {"smollm2-135m", "smollm2-360m"}}});
  const auto tokenizer = bytes_with_specials();
  auto spec = spec_of(server);
  spec.server.model = "smollm2-130m";
  EXPECT_EQ(
      error_of([&] { OpenAiTeacher(spec, tokenizer); }),
      "2: teacher.server.model: " + server.url() +
          " has no model 'smollm2-130m'; did you mean 'smollm2-135m'?; it lists smollm2-135m, smollm2-360m");
  spec.server.model = "";
  EXPECT_NE(error_of([&] { OpenAiTeacher(spec, tokenizer); }).find("teacher.server.model: missing"),
            std::string::npos);
  EXPECT_EQ(server.posts(), 0u);
}

TEST(OpenAiTeacher, WhatAServerCannotDoIsSaid) {
  const auto tokenizer = bytes_with_specials();
  const std::vector<Sample> samples = {text_sample("hello")};
  {
    const LoopbackServer server(Json{{"kind", "chat"}});
    EXPECT_NE(error_of([&] {
                OpenAiTeacher(spec_of(server), tokenizer).score(samples, 3);
              }).find("gives no log-probabilities of texts that it is given"),
              std::string::npos);
  }
  {
    const LoopbackServer server;
    EXPECT_NE(error_of([&] {
                OpenAiTeacher(spec_of(server), tokenizer).score(samples, 21);
              }).find("greater than max allowed: 20"),
              std::string::npos);
  }
  {
    const LoopbackServer server(Json{{"token", "sk-1"}});
    EXPECT_NE(error_of([&] { OpenAiTeacher(spec_of(server), tokenizer); }).find("refuses (401)"),
              std::string::npos);
  }
}

TEST(OpenAiTeacher, AnswersComeInTheOrderOfTheQuestionsWhateverFails) {
  const LoopbackServer server(Json{{"faults", {"500", "reset", "none", "429", "truncated", "half"}}});
  const auto tokenizer = bytes_with_specials();
  OpenAiTeacher teacher(spec_of(server), tokenizer);
  std::vector<AnswerRequest> requests;
  for (int64_t i = 0; i < 20; ++i)
    requests.push_back({{{"system", "s"}, {"user", (i == 3 ? "long " : "q") + std::to_string(i)}}, 100 + i});
  AnswersSpec spec;
  spec.temperature = 0.5;
  const auto answers = teacher.answer(requests, spec);
  ASSERT_EQ(answers.size(), 20u);
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(answers[i].text, fmt::format("{}{} -> {} at 0.5", i == 3 ? "long " : "q", i, 100 + i));
    EXPECT_EQ(answers[i].finish_reason, i == 3 ? "length" : "stop");
  }
  // Each of the five faults is asked again: by us, or by libcurl where a kept connection was reset before
  // anything came back.
  EXPECT_EQ(server.posts(), 25u);
  EXPECT_GE(teacher.retries(), 4);
  EXPECT_LE(teacher.retries(), 5);
}

// llama-cpp-python gives control tokens no text; what stands in the text is known all the same.
TEST(OpenAiTeacher, AControlTokenWithoutTextKeepsItsProbability) {
  const auto tokenizer = bytes_with_specials();
  const TokenNames names(tokenizer);
  const auto sample = sample_of({97, 257});
  const Json hidden = {{"text", "a<|im_end|>"},
                       {"logprobs",
                        {{"tokens", {"a", ""}},
                         {"token_logprobs", {nullptr, -0.25}},
                         {"top_logprobs", {nullptr, {{"", -0.25}, {"b", -2.0}}}}}}};
  const auto found = rows_of_echo(hidden, {sample, "a<|im_end|>"}, 2, names, "server");
  EXPECT_EQ(found.rows[0].ids, (std::vector<int32_t>{257, 98}));
  EXPECT_EQ(found.rows[0].log_p, (std::vector<float>{-0.25f, -2.0f}));
}

TEST(TokenNames, SpacesBeforePunctuationMayBeTidiedAway) {
  const ByteTokenizer tokenizer({" .", "do n't", "a b"});
  const TokenNames names(tokenizer);
  EXPECT_TRUE(names.may_be(".", 256));
  EXPECT_TRUE(names.may_be("don't", 257));
  EXPECT_FALSE(names.may_be(",", 256));
  EXPECT_FALSE(names.may_be("ab", 258));
}

TEST(TokenNames, KnowTheSpellingsOfServers) {
  const auto tokenizer = bytes_with_specials();
  const TokenNames names(tokenizer);
  EXPECT_EQ(names.find("a"), 97);
  EXPECT_EQ(names.find("<|im_end|>"), 257);
  EXPECT_EQ(names.find("token_id:98"), 98);
  EXPECT_EQ(names.find("token_id:259"), std::nullopt);
  EXPECT_EQ(names.find("token_id:x"), std::nullopt);
  EXPECT_EQ(names.find("bytes:\\xc3"), 0xC3);
  EXPECT_EQ(names.find("ab"), std::nullopt);
  EXPECT_TRUE(names.may_be("token_id:98", 98));
  EXPECT_FALSE(names.may_be("token_id:98", 97));
  EXPECT_TRUE(names.may_be("", 0xC3));  // half a character
  EXPECT_TRUE(names.may_be("\xEF\xBF\xBD", 0xC3));
  EXPECT_FALSE(names.may_be("", 97));
  EXPECT_TRUE(names.may_be("\u65e5", 0xA5));  // the character that it completes
  EXPECT_FALSE(names.may_be("\u65e5", 0xA4));
  EXPECT_FALSE(names.may_be("a", 0xC3));
  EXPECT_FALSE(names.may_be("b", 97));
}

}  // namespace
}  // namespace retort
