// Pre-tokenizers: text -> pieces that merges never cross. The published regular expressions are recognised by
// their text and run as hand-written scanners; a pattern from a file is never executed.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

enum class Split {
  one_number,     // \p{N}, each on its own; the rest in runs
  three_numbers,  // \p{N}{1,3}; the rest in runs
  cjk_kana,       // runs of U+4E00-9FA5 and kana (DeepSeek); the rest in runs
  line_end,       // five of DeepSeek V2 (deepseek_llm.h)
  cased_letters,
  ascii_symbols,
  trailing_spaces,
  cjk,
  gpt2,
  llama3,
  qwen2,
  qwen35,  // qwen2 whose words hold marks
  seed,    // qwen2 whose symbols hold no line ends (Seed-OSS)
  o200k,   // GPT-4o, Phi-4-mini
  tekken,
  deepseek_v3,  // the third pattern of DeepSeek V3
  kimi,         // o200k whose words hold no Han characters, which are words of their own
};

// The end of the piece that starts at `at` (at < end). Valid UTF-8 only.
using Scanner = const char* (*)(const char* at, const char* end);
Scanner scanner(Split split);

// Each split runs on the pieces that the one before it left; no split leaves the text whole.
template <class Sink>
void each_piece(std::span<const Scanner> scanners, std::string_view text, const Sink& sink) {
  if (scanners.empty()) return sink(text);
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at < end;) {
    const char* const stop = scanners[0](at, end);
    const std::string_view piece(at, static_cast<size_t>(stop - at));
    if (scanners.size() == 1) sink(piece);
    else each_piece(scanners.subspan(1), piece, sink);
    at = stop;
  }
}

// A family's pre-tokenizer under the name that GGUF's `tokenizer.ggml.pre` gives it; several names may stand
// for the same one.
struct PreTokenizer {
  std::string_view name;
  std::vector<Split> splits;
  bool ignore_merges;  // a piece that is a token is that token, whatever the merges say
  bool nfc;
  bool add_bos = false;  // what llama.cpp does where the file does not say it
};
const std::vector<PreTokenizer>& pre_tokenizers();
const PreTokenizer* find_pre_tokenizer(std::string_view gguf_name);  // nullptr when unknown
// The first of those that do the same.
const PreTokenizer* find_pre_tokenizer(std::span<const Split> splits, bool ignore_merges, bool nfc);

// The split whose published pattern is exactly `pattern`, for tokenizer.json and tekken files.
const Split* split_by_pattern(std::string_view pattern);  // nullptr when unknown
std::string_view split_pattern(Split split);  // the reverse; "" for gpt2 (ByteLevel has it built in)
std::string known_patterns();                 // their names, for error messages

}  // namespace retort
