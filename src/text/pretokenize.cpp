#include "text/pretokenize.h"

#include <algorithm>

#include "text/deepseek_llm.h"
#include "text/unicode.h"

namespace retort {
namespace {

// Script Han, of Unicode 16; in the order of how often they are asked.
bool is_han(uint32_t c) {
  if (c < 0x2E80) return false;
  struct Range {
    uint32_t first, last;
  };
  constexpr Range kRanges[] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x3005, 0x3005},   {0x3007, 0x3007},
                               {0x3021, 0x3029},   {0x3038, 0x303B},   {0xF900, 0xFA6D},   {0xFA70, 0xFAD9},
                               {0x2E80, 0x2E99},   {0x2E9B, 0x2EF3},   {0x2F00, 0x2FD5},   {0x16FE2, 0x16FE3},
                               {0x16FF0, 0x16FF1}, {0x20000, 0x2A6DF}, {0x2A700, 0x2B739}, {0x2B740, 0x2B81D},
                               {0x2B820, 0x2CEA1}, {0x2CEB0, 0x2EBE0}, {0x2EBF0, 0x2EE5D}, {0x2F800, 0x2FA1D},
                               {0x30000, 0x3134A}, {0x31350, 0x323AF}};
  return std::ranges::any_of(kRanges,
                             [c](const Range& range) { return c >= range.first && c <= range.last; });
}

struct Look {
  uint16_t classes;
  uint32_t length;  // 0 at the end of the text
};
Look look(const CharacterTable& table, const char* at, const char* end) {
  if (at >= end) return {0, 0};
  const auto byte = static_cast<uint8_t>(*at);
  if (byte < 0x80) return {table.ascii(byte), 1};
  const Decoded character = decode_utf8(at);
  return {table[character.code_point], character.length};
}

// Past the characters that are in one of `classes`, or in none of them.
const char* past(const CharacterTable& table, const char* at, const char* end, uint16_t classes) {
  for (Look next = look(table, at, end); (next.classes & classes) != 0; next = look(table, at, end))
    at += next.length;
  return at;
}
const char* past_others(const CharacterTable& table, const char* at, const char* end, uint16_t classes) {
  for (Look next = look(table, at, end); next.length > 0 && (next.classes & classes) == 0;
       next = look(table, at, end))
    at += next.length;
  return at;
}

// 's 't 're 've 'm 'll 'd at `at`: their end, or nullptr. Without regard to case, U+017F counts as an s.
const char* contraction(const char* at, const char* end, bool any_case) {
  if (at >= end || *at != '\'' || end - at < 2) return nullptr;
  const auto lower = [any_case](char c) {
    return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = lower(at[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if (any_case && end - at >= 3 && at[1] == '\xC5' && at[2] == '\xBF') return at + 3;
  if (end - at < 3) return nullptr;
  const char second = lower(at[2]);
  return ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l') ? at + 3
                                                                                              : nullptr;
}

// \s*[\r\n]+|\s+(?!\S)|\s+ : up to the last line end of the run; else the run without its last character,
// when a word follows that may want it; else the run.
template <bool newlines> const char* spaces(const CharacterTable& table, const char* at, const char* end) {
  const char *stop = at, *last = at, *after_newline = nullptr;
  for (Look next = look(table, stop, end); (next.classes & kSpace) != 0; next = look(table, stop, end)) {
    last = stop;
    stop += next.length;
    if (newlines && (next.classes & kNewline) != 0) after_newline = stop;
  }
  if (newlines && after_newline != nullptr) return after_newline;
  return stop == end || last == at ? stop : last;
}

// How the patterns since GPT-4 differ; they share the order contraction, word, number, symbols, line ends,
// spaces.
struct Style {
  enum Contractions { before, after } contractions = before;
  uint16_t word = kLetter;  // classes of a word's characters
  bool cased = false;       // words are upper-case* lower-case+ or upper-case+ lower-case*
  int numbers = 3;          // digits a piece
  uint16_t not_symbol = kSpace | kLetter | kNumber;
  bool slash = false;      // symbols may end in line ends and slashes
  bool line_ends = true;   // symbols may end in line ends
  bool contracted = true;  // tekken has no contractions
  bool han = false;        // Han characters are in no word, and words of their own
};

// The cased patterns' word from `at`. The published alternatives are, with U = {Lu Lt Lm Lo M} and W = {Ll Lm
// Lo M}, U*W+ then U+W*; the first backs off to the last character of the U run that is also in W.
constexpr uint16_t kCasedFirst = kUpper | kModifier | kOtherLetter | kMark,
                   kCasedRest = kLower | kModifier | kOtherLetter | kMark;
template <bool han> Look look_cased(const CharacterTable& table, const char* at, const char* end) {
  auto found = look(table, at, end);
  if (han && found.length > 1 && is_han(decode_utf8(at).code_point)) found.classes = 0;
  return found;
}
template <bool han> const char* past_cased(const CharacterTable& table, const char* at, const char* end) {
  for (Look next = look_cased<han>(table, at, end); (next.classes & kCasedRest) != 0;
       next = look_cased<han>(table, at, end))
    at += next.length;
  return at;
}
template <bool han>
const char* cased_word_first(const CharacterTable& table, const char* at, const char* end) {
  const char* shared = nullptr;
  for (Look next = look_cased<han>(table, at, end); (next.classes & kCasedFirst) != 0;
       next = look_cased<han>(table, at, end)) {
    at += next.length;
    if ((next.classes & kCasedRest) != 0) shared = at;
  }
  const char* const stop = past_cased<han>(table, at, end);
  return stop > at ? stop : shared;
}
template <bool han>
const char* cased_word_second(const CharacterTable& table, const char* at, const char* end) {
  const char* stop = at;
  for (Look next = look_cased<han>(table, stop, end); (next.classes & kCasedFirst) != 0;
       next = look_cased<han>(table, stop, end))
    stop += next.length;
  return stop > at ? past_cased<han>(table, stop, end) : nullptr;
}
// With and without the leading character, in the order in which a backtracking matcher tries them.
template <bool han>
const char* cased_word(const CharacterTable& table, const char* at, const char* end, Look first) {
  const bool may_lead = (first.classes & (kNewline | kLetter | kNumber)) == 0;
  const char* stop = may_lead ? cased_word_first<han>(table, at + first.length, end) : nullptr;
  if (stop == nullptr) stop = cased_word_first<han>(table, at, end);
  if (stop == nullptr && may_lead) stop = cased_word_second<han>(table, at + first.length, end);
  if (stop == nullptr) stop = cased_word_second<han>(table, at, end);
  return stop;
}

template <Style style> const char* modern(const char* at, const char* end) {
  const CharacterTable& table = character_table();
  const Look first = look(table, at, end);
  if constexpr (style.contracted && style.contractions == Style::before) {
    if (const char* stop = contraction(at, end, true)) return stop;
  }
  if constexpr (style.cased) {
    if constexpr (style.han) {
      const auto han = [&](const char* c) { return c < end && is_han(decode_utf8(c).code_point); };
      const char* stop = at;
      while (han(stop)) stop += utf8_length(*stop);
      if (stop > at) return stop;
    }
    if (const char* stop = cased_word<style.han>(table, at, end, first)) {
      if constexpr (style.contracted) {
        if (const char* longer = contraction(stop, end, true)) return longer;
      }
      return stop;
    }
  } else {
    if ((first.classes & style.word) != 0) return past(table, at + first.length, end, style.word);
    if ((first.classes & (kNewline | kLetter | kNumber)) == 0) {
      const Look second = look(table, at + first.length, end);
      if ((second.classes & style.word) != 0)
        return past(table, at + first.length + second.length, end, style.word);
    }
  }
  if ((first.classes & kNumber) != 0) {
    Look next = first;
    for (int i = 0; i < style.numbers && (next.classes & kNumber) != 0; ++i, next = look(table, at, end))
      at += next.length;
    return at;
  }
  const char* const symbols = *at == ' ' ? at + 1 : at;
  const char* stop = past_others(table, symbols, end, style.not_symbol);
  if (stop > symbols) {
    while (style.line_ends && stop < end && (*stop == '\r' || *stop == '\n' || (style.slash && *stop == '/')))
      ++stop;
    return stop;
  }
  return spaces<true>(table, at, end);
}

const char* gpt2(const char* at, const char* end) {
  const CharacterTable& table = character_table();
  if (const char* stop = contraction(at, end, false)) return stop;
  const char* const body = *at == ' ' && end - at > 1 ? at + 1 : at;
  const Look first = look(table, body, end);
  if ((first.classes & kLetter) != 0) return past(table, body + first.length, end, kLetter);
  if ((first.classes & kNumber) != 0) return past(table, body + first.length, end, kNumber);
  if ((first.classes & kSpace) == 0) return past_others(table, body, end, kSpace | kLetter | kNumber);
  return spaces<false>(table, at, end);
}

template <int most> const char* numbers(const char* at, const char* end) {
  const CharacterTable& table = character_table();
  if ((look(table, at, end).classes & kNumber) == 0) return past_others(table, at, end, kNumber);
  for (int i = 0; i < most; ++i) {
    const Look next = look(table, at, end);
    if ((next.classes & kNumber) == 0) break;
    at += next.length;
  }
  return at;
}

const char* cjk_kana(const char* at, const char* end) {
  const auto inside = [](const char* character) {
    if (static_cast<uint8_t>(*character) < 0xE3) return false;
    const uint32_t c = decode_utf8(character).code_point;
    return (c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF);
  };
  const bool wanted = inside(at);
  do at += utf8_length(*at);
  while (at < end && inside(at) == wanted);
  return at;
}

// The third pattern of DeepSeek V3 at `at`, or nullptr: it leaves numbers and control characters unmatched.
const char* deepseek_match(const CharacterTable& table, const char* at, const char* end) {
  constexpr uint16_t kWord = kLetter | kMark, kSymbols = kPunctuation | kSymbol;
  const auto ascii_letter = [end](const char* c) {
    return c < end && ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z'));
  };
  const Look first = look(table, at, end);
  if (*at > ' ' && *at < 0x7F && (first.classes & kSymbols) != 0 && ascii_letter(at + 1)) {
    do ++at;
    while (ascii_letter(at));
    return at;
  }
  if ((first.classes & kWord) != 0) return past(table, at, end, kWord);
  if ((first.classes & (kNewline | kSymbols)) == 0) {
    const char* const stop = past(table, at + first.length, end, kWord);
    if (stop > at + first.length) return stop;
  }
  const char* const symbols = *at == ' ' ? at + 1 : at;
  const char* stop = past(table, symbols, end, kSymbols);
  if (stop > symbols) {
    while (stop < end && (*stop == '\r' || *stop == '\n')) ++stop;
    return stop;
  }
  return (first.classes & kSpace) != 0 ? spaces<true>(table, at, end) : nullptr;
}
const char* deepseek_v3(const char* at, const char* end) {
  const CharacterTable& table = character_table();
  if (const char* stop = deepseek_match(table, at, end)) return stop;
  do at += utf8_length(*at);  // what no alternative matches stays together
  while (at < end && deepseek_match(table, at, end) == nullptr);
  return at;
}

struct KnownSplit {
  Split split;
  std::string_view name;
  Scanner scanner;
  std::string_view pattern;
};
constexpr KnownSplit kKnown[] = {
    {Split::one_number, "one number", numbers<1>, R"(\p{N})"},
    {Split::three_numbers, "three numbers", numbers<3>, R"(\p{N}{1,3})"},
    {Split::cjk_kana, "CJK and kana", cjk_kana, "[一-龥\u3040-ゟ゠-ヿ]+"},
    {Split::line_end, "line ends", line_end, kLineEndPattern},
    {Split::cased_letters, "cased letters", cased_letters, kCasedLettersPattern},
    {Split::ascii_symbols, "ASCII symbols", ascii_symbols, kAsciiSymbolsPattern},
    {Split::trailing_spaces, "trailing spaces", trailing_spaces, kTrailingSpacesPattern},
    {Split::cjk, "CJK", cjk, kCjkPattern},
    {Split::gpt2, "gpt2", gpt2,
     R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"},
    {Split::llama3, "llama3", modern<Style{}>,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Split::qwen2, "qwen2", modern<Style{.numbers = 1}>,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|)"
     R"(\s+(?!\S)|\s+)"},
    {Split::qwen35, "qwen35",
     modern<Style{.word = kLetter | kMark, .numbers = 1, .not_symbol = kSpace | kLetter | kMark | kNumber}>,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
     R"(\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Split::seed, "seed", modern<Style{.numbers = 1, .line_ends = false}>,
     R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|)"
     R"(\s+(?!\S)|\s+)"},
    {Split::o200k, "o200k", modern<Style{.contractions = Style::after, .cased = true, .slash = true}>,
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|)"
     R"('ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|)"
     R"('re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Split::tekken, "tekken", modern<Style{.cased = true, .numbers = 1, .slash = true, .contracted = false}>,
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Split::deepseek_v3, "deepseek-v3", deepseek_v3,
     R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
     R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
    {Split::kimi, "kimi", modern<Style{.contractions = Style::after, .cased = true, .han = true}>,
     R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M})"
     R"(&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&)"
     R"([^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"},
};

}  // namespace

Scanner scanner(Split split) { return kKnown[static_cast<size_t>(split)].scanner; }
std::string_view split_pattern(Split split) { return kKnown[static_cast<size_t>(split)].pattern; }

const Split* split_by_pattern(std::string_view pattern) {
  std::string escaped;  // DeepSeek's files hold the line ends themselves where the others write \r and \n
  for (const char c : pattern) {
    if (c == '\r') escaped += "\\r";
    else if (c == '\n') escaped += "\\n";
    else escaped += c;
  }
  for (const KnownSplit& known : kKnown)
    if (known.pattern == escaped) return &known.split;
  return nullptr;
}

std::string known_patterns() {
  std::string names;
  for (const KnownSplit& known : kKnown) names += (names.empty() ? "" : ", ") + std::string(known.name);
  return names;
}

const std::vector<PreTokenizer>& pre_tokenizers() {
  static const std::vector<PreTokenizer> table = {
      {"gpt-2", {Split::gpt2}, false, false},
      {"smollm", {Split::one_number, Split::gpt2}, false, false},
      {"llama-bpe", {Split::llama3}, true, false, true},
      {"lfm2", {Split::llama3}, true, false, true},
      {"glm4", {Split::llama3}, true, false},
      {"dbrx", {Split::llama3}, false, false},
      {"smaug-bpe", {Split::llama3}, false, false},
      {"qwen2", {Split::qwen2}, false, true},
      {"deepseek-r1-qwen", {Split::qwen2}, false, false},
      {"qwen35", {Split::qwen35}, false, true},
      {"seed-coder", {Split::seed}, false, false},
      {"gpt-4o", {Split::o200k}, false, false},
      {"llama4", {Split::o200k}, false, false},
      {"tekken", {Split::tekken}, true, false, true},
      {"deepseek-v3", {Split::three_numbers, Split::cjk_kana, Split::deepseek_v3}, false, false},
      {"hunyuan-dense", {Split::three_numbers, Split::cjk_kana, Split::deepseek_v3}, false, false},
      {"deepseek-llm",
       {Split::line_end, Split::cased_letters, Split::ascii_symbols, Split::trailing_spaces, Split::cjk,
        Split::one_number},
       false,
       false},
      {"kimi-k2", {Split::kimi}, true, false},
      {"joyai-llm", {Split::three_numbers, Split::cjk_kana, Split::deepseek_v3}, false, false},
  };
  return table;
}

const PreTokenizer* find_pre_tokenizer(std::string_view gguf_name) {
  for (const PreTokenizer& known : pre_tokenizers())
    if (known.name == gguf_name) return &known;
  return nullptr;
}

const PreTokenizer* find_pre_tokenizer(std::span<const Split> splits, bool ignore_merges, bool nfc) {
  for (const PreTokenizer& known : pre_tokenizers())
    if (std::ranges::equal(known.splits, splits) && known.ignore_merges == ignore_merges && known.nfc == nfc)
      return &known;
  return nullptr;
}

}  // namespace retort
