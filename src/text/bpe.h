// Byte-pair encoding as one engine: byte-level vocabularies (GPT-2's alphabet) and SentencePiece's, from any
// file format.
#pragma once
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/added_tokens.h"
#include "text/merge.h"
#include "text/pretokenize.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace retort {

enum class TokenType : int8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};  // GGUF's numbers

constexpr size_t kLongestToken = 4096;     // bytes of a token's spelling; the longest published ones are 512
constexpr size_t kMostTokens = 4'000'000;  // the largest published vocabulary has 262,144

// Everything that decides which ids a text gets. Plain data: the readers fill it, writers and the hash read
// it.
struct BpeModel {
  enum class Alphabet {
    bytes,
    characters
  };  // GPT-2's spelling of bytes, or characters with U+2581 for the space
  // Which pair merges first: the order of a merge list; the score of what it becomes (SentencePiece, equal
  // scores are equal); the id of what it becomes (tiktoken). In the latter two any two neighbours that spell
  // a token merge.
  enum class Order { merges, scores, ids };
  enum class Prefix {
    never,
    first,
    always
  };  // U+2581 before the text: at its very start, or after each added token too

  Alphabet alphabet = Alphabet::bytes;
  Order order = Order::merges;
  std::vector<std::string> tokens;  // spelling by id
  std::vector<TokenType> types;
  std::vector<std::pair<int32_t, int32_t>> merges;  // Order::merges
  std::vector<float> scores;                        // Order::scores; may be kept for export otherwise
  std::vector<AddedToken> added;
  std::vector<Split> splits;
  bool ignore_merges = false;  // a piece that is a token is that token
  bool nfc = false;
  bool byte_fallback = false, fuse_unknown = false;  // Alphabet::characters
  Prefix prefix = Prefix::never;
  bool prefix_unless_there = false;  // not when the text starts with a space already (Metaspace)
  bool split_words = false;          // merges never cross from one word to the next (Metaspace)
  InvalidUtf8 invalid_utf8 = InvalidUtf8::maximal_subparts;
  std::string pre;  // tokenizer.ggml.pre as read, for export
  std::optional<int32_t> bos, eos, pad, unknown;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};

// How llama.cpp's converter tells control tokens that a file did not mark as special.
bool looks_like_control(std::string_view spelling);
std::string spelling_of_hole(int64_t id);                 // "[PAD42]", as llama.cpp's converter names them
int byte_of_spelling(std::string_view spelling);          // "<0x0A>" -> 10, or -1
std::string spaces_for_marks(std::string_view spelling);  // U+2581 -> ' '

struct RankedMerge {
  int32_t left, right, result;
  uint32_t rank;
};

class BpeTokenizer final : public Tokenizer {
 public:
  // Checks the model: ids in range, unique spellings, sizes bounded. FormatError names `file`.
  BpeTokenizer(BpeModel model, std::string_view file);
  ~BpeTokenizer() override;

  std::vector<int32_t> encode(std::string_view text, Specials specials) const override;
  // encode() as text, of a text that stands behind a control token: Prefix::first puts no space there.
  std::vector<int32_t> encode_behind(std::string_view text) const;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string token_bytes(int32_t id) const override;
  std::string token_text(int32_t id) const override;
  std::optional<int32_t> find(std::string_view token_text) const override;
  bool is_special(int32_t id) const override;
  int64_t size() const override { return static_cast<int64_t>(model_.tokens.size()); }
  const std::vector<int32_t>& holes() const override { return holes_; }
  std::string hash() const override;

  const BpeModel& model() const { return model_; }
  // Whether white space behind this control token belongs to it (Phi-3's).
  bool strips_right(int32_t id) const { return std::ranges::binary_search(strip_right_, id); }
  // All merges as an explicit list, by rank; where neighbours merge by spelling, every split of a token into
  // two (equal ranks by id of the result, of the left and of the right part, which is how transformers'
  // converters list them).
  std::vector<RankedMerge> merge_list() const;
  // tiktoken's vocabulary as GGUF lists it: the one last merge of every token that merging reaches.
  std::vector<RankedMerge> last_merges() const;

 private:
  struct Work;  // one call's scratch memory and its thread's piece cache
  std::vector<int32_t> encode_from(std::string_view text, bool control, bool first) const;
  void check(std::string_view file) const;
  void index_tokens(std::string_view file);
  void index_characters();
  void index_merges(std::string_view file);
  std::vector<RankedMerge> split_pairs() const;  // every split of a token into two symbols
  void index_neighbours();
  void encode_plain(std::string_view text, bool first, bool control, Work& work) const;
  void encode_words(std::string_view text, Work& work) const;
  void encode_piece(std::string_view piece, Work& work) const;
  void merge_piece(std::string_view piece, Work& work) const;
  void spell_out(int32_t symbol, Work& work) const;
  bool cut_before_space(std::string_view text, size_t at) const;
  bool merges_into(int32_t id) const;  // whether merging may produce this token
  const std::string& spelling(int32_t id) const;

  BpeModel model_;
  std::vector<int32_t> holes_, strip_right_;  // rising
  std::vector<std::string> bytes_;            // what each token stands for; U+2581 as a space
  std::unordered_map<std::string_view, int32_t> by_spelling_;
  std::unordered_map<std::string_view, int32_t>
      by_bytes_;  // Alphabet::bytes, tokens that merging may produce
  std::array<int32_t, 256>
      byte_symbols_{};  // Alphabet::bytes: first symbols; characters: the fallback tokens; or -1
  // Alphabet::characters: first symbols. Beyond the ids stand characters that are part of a token but none
  // themselves; a character that no token holds is -2 - code point.
  std::array<int32_t, 128> ascii_symbols_{};
  std::unordered_map<uint32_t, int32_t> character_symbols_;
  std::vector<uint32_t> extra_characters_;      // symbol - size() -> code point
  std::array<bool, 128> ascii_before_space_{};  // characters that stand before U+2581 inside some token:
  std::vector<uint32_t> before_space_;          // sorted; after any other a merge cannot cross to U+2581
  MergeTable pairs_;
  std::vector<Scanner> scanners_;
  AddedTokenFinder raw_added_, normalized_added_;
  uint64_t serial_ = 0;  // names this tokenizer in the threads' piece caches
};

}  // namespace retort
