// Hostile tokenizer files: refused with one line that names place and problem, and nothing is allocated or
// followed on their word.
#include <gtest/gtest.h>
#include <time.h>

#include <cstring>
#include <functional>
#include <limits>

#include "base/error.h"
#include "fuzz/damage.h"
#include "text/golden.h"
#include "text/made_model.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"

namespace retort {
namespace {

std::string problem(const std::function<void()>& read) {
  try {
    read();
  } catch (const FormatError& error) {
    EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    return error.what();
  }
  return "accepted";
}

void expect_says(const std::string& message, std::string_view part) {
  EXPECT_NE(message.find(part), std::string::npos) << "'" << message << "' does not say '" << part << "'";
}

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  const size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

// ---- tokenizer.json ----

const std::string kJson =
    R"({"added_tokens":[{"id":3,"content":"<|end|>","special":true}],"normalizer":null,)"
    R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},)"
    R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
std::string json_problem(const std::string& text) {
  return problem([&] { tokenizer_from_json(text, "", "made.json"); });
}

// ---- tekken ----

std::string tekken() {
  return Json{
      {"config",
       {{"pattern", split_pattern(Split::tekken)},
        {"default_vocab_size", 4},
        {"default_num_special_tokens", 2}}},
      {"special_tokens", {{{"rank", 0}, {"token_str", "<unk>"}}, {{"rank", 1}, {"token_str", "<s>"}}}},
      {"vocab", {{{"rank", 0}, {"token_bytes", "YQ=="}}, {{"rank", 1}, {"token_bytes", "Yg=="}}}}}
      .dump();
}
std::string tekken_problem(const std::string& text) {
  return problem([&] { tokenizer_from_tekken(text, "made.tekken"); });
}

// ---- SentencePiece ----

std::string model_problem(const std::string& bytes) {
  return problem([&] { tokenizer_from_sentencepiece(bytes, "made.model"); });
}
std::string with_piece(const std::string& one) {
  MadeModel model;
  model.pieces.push_back(one);
  return model_problem(model.bytes());
}
// [bytes of the trie][units][replacements]
std::string with_trie(std::vector<uint32_t> units, const std::string& replacements, uint32_t said = 0) {
  const auto bytes_of_trie = said ? said : static_cast<uint32_t>(4 * units.size());
  std::string charsmap(4 + 4 * units.size(), '\0');
  std::memcpy(charsmap.data(), &bytes_of_trie, 4);
  std::memcpy(charsmap.data() + 4, units.data(), 4 * units.size());
  return model_problem(MadeModel{.kind = 1, .charsmap = charsmap + replacements}.bytes());
}

GgufVocabulary vocabulary() {
  GgufVocabulary made;
  made.model = "gpt2";
  made.pre = "smollm";
  made.tokens = {"a", "b", "ab"};
  made.token_types = {1, 1, 1};
  made.merges = {"a b"};
  return made;
}
std::string gguf_problem(const std::function<void(GgufVocabulary&)>& change) {
  auto made = vocabulary();
  change(made);
  return problem([&] { tokenizer_from_gguf(made, "made.gguf"); });
}

double cpu_seconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace

TEST(HostileTokenizerJson, TheFileItIsMadeFromIsAccepted) {
  const auto tokenizer = tokenizer_from_json(kJson, "", "made.json");
  EXPECT_EQ(tokenizer->encode("ab"), std::vector<int32_t>{2});
  EXPECT_EQ(tokenizer->size(), 4);
}

TEST(HostileTokenizerJson, EveryTruncationIsNoticed) {
  for (size_t length = 0; length < kJson.size(); ++length)
    EXPECT_NE(json_problem(kJson.substr(0, length)), "accepted") << length;
}

TEST(HostileTokenizerJson, NestingKeysAndTypes) {
  EXPECT_NE(json_problem(nested(100000)), "accepted");
  expect_says(json_problem(replaced(kJson, R"("normalizer":null)", R"("normalizer":)" + nested(100))),
              "deeper than 64");
  expect_says(json_problem(replaced(kJson, R"("normalizer":null)", R"("normalizer":null,"normalizer":null)")),
              "normalizer: this key stands twice");
  expect_says(json_problem(replaced(kJson, R"("a":0,)", R"("a":0,"a":0,)")),
              "a: stands twice in the vocabulary");
  expect_says(json_problem(replaced(kJson, R"("a":0,)", R"("a":0,"a":7,)")),
              "every token has its own spelling");
  expect_says(json_problem(replaced(kJson, R"({"a":0,"b":1,"ab":2})", "7")),
              "model.vocab: is not a JSON object");
  expect_says(json_problem(replaced(kJson, R"("special":true)", R"("special":1)")),
              "special: is not true or false");
  expect_says(json_problem("{}"), "is this a tokenizer.json?");
  expect_says(json_problem(replaced(kJson, R"("BPE")", R"("Unigram")")),
              "'Unigram'; BPE with vocab and merges is read");
}

TEST(HostileTokenizerJson, IdsOutOfRange) {
  for (const char* id :
       {"-1", "1e3", "0.5", "4000000", "9007199254740993", "18446744073709551615", "\"0\"", "null"})
    EXPECT_NE(json_problem(replaced(kJson, R"("b":1)", std::string(R"("b":)") + id)), "accepted") << id;
  expect_says(json_problem(replaced(kJson, R"("b":1)", R"("b":3999999)")),
              "b: its id is not a whole number from 0 to");  // 128 MB of holes
  expect_says(json_problem(replaced(kJson, R"("id":3)", R"("id":3999999)")), "<|end|>: its id");
  expect_says(json_problem(replaced(kJson, R"("id":3)", R"("id":1)")), "has the id 1, which belongs to 'b'");
  expect_says(json_problem(replaced(kJson, "a b", "a c")), "names 'c', which is no token");
  expect_says(json_problem(replaced(kJson, "a b", "b a")), "makes 'ba', which is no token");
  expect_says(json_problem(replaced(kJson, R"("a b")", R"("a b","a b")")), "stands twice");
  expect_says(json_problem(replaced(kJson, R"("a":0)", "\"" + std::string(4097, 'x') + R"(":7,"a":0)")),
              "at most 4096 bytes");
}

TEST(HostileTokenizerJson, PatternsOfTheFileAreNeverExecuted) {
  const auto split = [](const std::string& pattern) {
    return replaced(
        kJson, R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})",
        R"({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":")" + pattern +
            R"("},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,)"
            R"("use_regex":false}]})");
  };
  expect_says(json_problem(split("(a+)+$")), "(patterns are never executed)");
  expect_says(json_problem(split(std::string(100000, '('))), "(patterns are never executed)");
  expect_says(json_problem(replaced(kJson, R"("normalizer":null)",
                                    R"("normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"})")),
              "'Precompiled' is not known");
}

TEST(HostileTekken, SizesRanksAndBytes) {
  ASSERT_EQ(tokenizer_from_tekken(tekken(), "made.tekken")->size(), 4);
  const auto good = tekken();
  for (size_t length = 0; length < good.size(); length += 7)
    EXPECT_NE(tekken_problem(good.substr(0, length)), "accepted") << length;
  expect_says(tekken_problem(replaced(good, R"("default_vocab_size":4)", R"("default_vocab_size":4000000)")),
              "vocab: has 2 entries; config.default_vocab_size needs 3999998");
  expect_says(tekken_problem(replaced(good, R"("default_vocab_size":4)", R"("default_vocab_size":4000001)")),
              "config.default_vocab_size");
  expect_says(tekken_problem(replaced(good, R"("default_vocab_size":4)", R"("default_vocab_size":-4)")),
              "config.default_vocab_size");
  expect_says(tekken_problem(
                  replaced(replaced(good, R"("default_vocab_size":4)", R"("default_vocab_size":4000000)"),
                           R"("default_num_special_tokens":2)", R"("default_num_special_tokens":3999998)")),
              "at most 65536 are read");
  expect_says(
      tekken_problem(replaced(replaced(good, R"("default_vocab_size":4)", R"("default_vocab_size":3)"),
                              R"("default_num_special_tokens":2)", R"("default_num_special_tokens":1)")),
      "special_tokens: has 2 entries; config allows 1");
  expect_says(tekken_problem(replaced(good, R"("rank":1,"token_bytes")", R"("rank":7,"token_bytes")")),
              "vocab[1]: its rank is not its place");
  for (const char* base64 : {"Yg=", "Y!==", "", "YQ==YQ=="})
    expect_says(tekken_problem(replaced(good, "Yg==", base64)),
                "vocab[1]: token_bytes is not the base64 of a token");
  expect_says(tekken_problem(replaced(good, "Yg==", "YQ==")), "every token has its own spelling");
  expect_says(tekken_problem(replaced(good, "Yg==", std::string(9000, 'A'))), "vocab[1]: token_bytes");
  expect_says(tekken_problem(replaced(good, R"("pattern":")", R"("pattern":"(a+)+$)")),
              "patterns are never executed");
  EXPECT_NE(tekken_problem(nested(100000)), "accepted");
}

TEST(HostileSentencePiece, TheModelItIsMadeFromIsAcceptedAndItsTruncationsAreNot) {
  const auto model = MadeModel{}.bytes();
  EXPECT_EQ(tokenizer_from_sentencepiece(model, "made.model")->size(), 3);
  int refused = 0;
  for (size_t length = 0; length < model.size(); ++length)
    refused += model_problem(model.substr(0, length)) != "accepted";
  EXPECT_GT(refused, static_cast<int>(model.size()) - 6);  // between two fields a shorter model is a model
}

TEST(HostileSentencePiece, Pieces) {
  expect_says(with_piece(piece("")), "piece 3: is empty");
  expect_says(with_piece(piece(std::string(4097, 'x'))),
              "piece 3: is 4097 bytes (4.0 KiB) long; at most 4096 bytes (4.0 KiB) are read");
  expect_says(with_piece(piece("\xFF\xFE")), "is not UTF-8 text");
  expect_says(with_piece(piece(std::string("a\0b", 3))), "is not UTF-8 text");
  expect_says(with_piece(piece("a")), "stands twice");
  expect_says(with_piece(piece("c", std::numeric_limits<float>::quiet_NaN())),
              "has a score that is not a number");
  expect_says(with_piece(piece("c", std::numeric_limits<float>::infinity())),
              "has a score that is not a number");
  for (const uint64_t type : {uint64_t{0}, uint64_t{7}, ~uint64_t{0}})
    expect_says(with_piece(piece("c", 0, type)), "types are 1 to 6");
  expect_says(with_piece(piece("c", 0, 6)), "is a byte piece, which is spelled like <0x0A>");
  expect_says(with_piece(piece("<unk2>", 0, 2)), "has 2 unknown pieces; it needs one");
  expect_says(model_problem(text(1, text(1, "a"))), "has 0 unknown pieces");
  expect_says(model_problem(MadeModel{}.bytes() + text(2, whole(35, 1))),
              "two trainer or normalizer sections");
  expect_says(model_problem(""), "has no pieces");
}

TEST(HostileSentencePiece, LengthsAndNumbersOfTheWireFormat) {
  const std::string good = MadeModel{}.bytes();
  expect_says(model_problem(good + varint(1 << 3 | 2) + varint(uint64_t{1} << 60)), "does not fit in");
  expect_says(model_problem(good + varint(1 << 3 | 2) + varint(~uint64_t{0})), "does not fit in");
  expect_says(model_problem(good + std::string(11, '\xFF')), "has a number over 64 bits");
  expect_says(model_problem(good + varint(9 << 3 | 3)), "wire type 3");  // groups nest
  expect_says(model_problem(good + std::string(1, '\0')), "has a field without a number");
  expect_says(model_problem(good + whole(1, 5)), "field 1 is not text");
  expect_says(model_problem(MadeModel{.kind = 9}.bytes()), "the model type 9 is unknown");
}

// The library follows the normalizer's trie without a look at its bounds, so that every step is checked
// before it sees it.
TEST(HostileSentencePiece, TriesThatLeadOutside) {
  constexpr uint32_t kLeaf = 1u << 31;
  const std::string nul(1, '\0');
  const auto leads_to = [](uint32_t offset) { return offset << 10; };
  expect_says(with_trie({leads_to(0x1FFFFF)}, nul), "leads to unit 2097151, but there are 1");
  expect_says(with_trie(std::vector<uint32_t>(255, leads_to(0)), nul),
              "but there are 255");  // each of 256 labels is a step
  expect_says(with_trie(std::vector<uint32_t>(256, kLeaf | 1), nul),
              "names the replacement at 1, but they end at 1");
  expect_says(with_trie(std::vector<uint32_t>(256, kLeaf | 0x7FFFFFFF), nul), "names the replacement at");
  expect_says(with_trie(std::vector<uint32_t>(256, 0), ""), "do not end in a NUL");
  expect_says(with_trie(std::vector<uint32_t>(256, 0), "\xFF" + nul), "are not UTF-8");
  expect_says(with_trie({0}, nul, 5), "says its trie takes");
  expect_says(with_trie({0}, nul, 0xFFFFFFFC), "says its trie takes");
  expect_says(model_problem(MadeModel{.kind = 1, .charsmap = "abc"}.bytes()), "is cut");
}

TEST(HostileGgufVocabulary, NumbersThatDoNotFit) {
  ASSERT_EQ(tokenizer_from_gguf(vocabulary(), "made.gguf")->encode("ab"), std::vector<int32_t>{2});
  expect_says(gguf_problem([](auto& made) { made.tokens.clear(); }), "made.gguf");
  expect_says(gguf_problem([](auto& made) { made.token_types.pop_back(); }), "has 2 entries for 3 tokens");
  expect_says(gguf_problem([](auto& made) { made.token_types[0] = 7; }), "holds 7; types are 1 to 6");
  expect_says(gguf_problem([](auto& made) { made.merges = {"ab"}; }),
              "is not two tokens with a space between");
  expect_says(gguf_problem([](auto& made) { made.merges = {"a x"}; }), "names 'x', which is no token");
  expect_says(gguf_problem([](auto& made) {
                made.tokens[1] = "a";
                made.merges.clear();
              }),
              "every token has its own spelling");
  expect_says(gguf_problem([](auto& made) {
                made.tokens[1] = "\xFF";
                made.merges.clear();
              }),
              "is not UTF-8");
  expect_says(gguf_problem([](auto& made) { made.eos = 3; }),
              "end-of-text token: is token 3, but there are 3 tokens");
  expect_says(gguf_problem([](auto& made) { made.bos = -1; }), "beginning-of-text token: is token -1");
  expect_says(gguf_problem([](auto& made) { made.pre = "my-own"; }), "is 'my-own', an unknown pre-tokenizer");
  expect_says(gguf_problem([](auto& made) { made.model = "bert"; }), "is 'bert'");
  expect_says(gguf_problem([](auto& made) {
                made.model = "llama";
                made.scores = {0, 0};
              }),
              "has 3 tokens but 2 scores");
}

// A megabyte of one character, and of one pair that merges all the way, takes time in proportion to its
// length.
TEST(HostileText, OneCharacterInLinearTime) {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* family : {"gpt2", "llama3", "llama2", "gemma", "metaspace"})
    tokenizers.push_back(
        tokenizer_from_json(golden(family).at("tokenizer_json").get<std::string>(), "", family));
  tokenizers.push_back(tokenizer_from_sentencepiece(MadeModel{}.bytes(), "made.model"));
  for (const auto& tokenizer : tokenizers) {
    for (const std::string unit : {"a", " ", "\n", "é", "ab"}) {
      const auto seconds = [&](size_t bytes_of_text) {
        std::string repeated;
        while (repeated.size() < bytes_of_text) repeated += unit;
        const double start = cpu_seconds();
        tokenizer->encode(repeated);
        return cpu_seconds() - start;
      };
      seconds(1 << 10);
      const double small = std::max(seconds(1 << 17), 1e-3), large = seconds(1 << 20);
      EXPECT_LT(large, 8 * 4 * small)
          << printable(unit);  // 8 times the text; quadratic would be 64 times the time
      EXPECT_LT(large, 5.0) << printable(unit);
    }
  }
}

// Seeded damage to a file, and a text beside it: read and encoded in full, or refused.
TEST(HostileTokenizers, DamagedFilesEncodeOrAreRefused) {
  const std::string small_json =
      replaced(golden("metaspace").at("tokenizer_json").get<std::string>(), "x", "x");
  MadeModel unigram{.kind = 1, .byte_fallback = true};
  for (int byte = 0; byte < 256; ++byte)
    unigram.pieces.push_back(piece(fmt::format("<0x{:02X}>", byte), 0, 6));
  using Read = std::function<std::unique_ptr<Tokenizer>(const std::string&)>;
  const std::vector<std::pair<std::string, Read>> readers = {
      {kJson, [](const std::string& data) { return tokenizer_from_json(data, "", "damaged"); }},
      {small_json, [](const std::string& data) { return tokenizer_from_json(data, "", "damaged"); }},
      {replaced(tekken(), "{", "{\"comment\":\"" + std::string(400, 'x') + "\","),
       [](const std::string& data) { return tokenizer_from_tekken(data, "damaged"); }},
      {MadeModel{}.bytes(),
       [](const std::string& data) { return tokenizer_from_sentencepiece(data, "damaged"); }},
      {unigram.bytes(),
       [](const std::string& data) { return tokenizer_from_sentencepiece(data, "damaged"); }},
  };
  const std::string sample = "ab a  b\n<|end|>\xC3\x28 é 日本 <unk>\xFF";
  for (size_t reader = 0; reader < readers.size(); ++reader) {
    int accepted = 0, refused = 0;
    for (uint64_t i = 0; i < 1000; ++i) {
      const auto data =
          damaged(readers[reader].first, fmt::format("tokenizer file {}", reader), i, "[]{}\",:019-\\ \xFF");
      try {
        const auto tokenizer = readers[reader].second(data);
        for (const auto specials : {Specials::as_text, Specials::as_tokens})
          for (const int32_t id : tokenizer->encode(sample, specials)) {
            ASSERT_GE(id, 0);
            ASSERT_LT(id, tokenizer->size());
          }
        ++accepted;
      } catch (const FormatError& error) {
        ++refused;
        EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
      }
    }
    EXPECT_GT(accepted, 5) << reader;
    EXPECT_GT(refused, 50) << reader;
  }
}

}  // namespace retort
