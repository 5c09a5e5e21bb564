// The pre-tokenizer of DeepSeek's first models and of V2: five patterns that leave a rest between their
// matches, and then single digits. Each scanner gives the end of the match that starts at `at`, or of what
// stands in front of the next one.
#pragma once
#include <string_view>

namespace retort {

const char* line_end(const char* at, const char* end);         // [\r\n]
const char* cased_letters(const char* at, const char* end);    // \s?[most letters that have a case]+
const char* ascii_symbols(const char* at, const char* end);    // \s?[!-/:-~ and their wide forms]+
const char* trailing_spaces(const char* at, const char* end);  // \s+$
const char* cjk(const char* at, const char* end);              // [U+0800-9FA5, Hangul]+

inline constexpr std::string_view kLineEndPattern = R"([\r\n])",
                                  kAsciiSymbolsPattern = R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)",
                                  kTrailingSpacesPattern = R"(\s+$)",
                                  kCjkPattern = R"([一-龥ࠀ-一가-퟿]+)";
inline constexpr std::string_view kCasedLettersPattern =
    R"(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ)"
    R"(ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛ)"
    R"(Ꜣ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)";

}  // namespace retort
