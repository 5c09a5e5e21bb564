// Tokens that are cut out of the text before anything else happens to it: "<|im_end|>", "[INST]", "<think>".
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace retort {

struct AddedToken {
  std::string text;
  int32_t id = -1;
  bool control = false;                          // found only where control tokens are asked for
  bool special = true;                           // the file's own word; some control tokens are not called so
  bool normalized = false;                       // looked for in the normalized text instead of the raw one
  bool strip_left = false, strip_right = false;  // swallows the white space beside it
  bool single_word = false;                      // only where no word character touches it
};

// Finds them: leftmost, and the longest of those that start there (as Hugging Face's AddedVocabulary does).
// The first place from `from` on where no white space stands.
size_t behind_white_space(std::string_view text, size_t from);

class AddedTokenFinder {
 public:
  void add(const AddedToken& token);
  bool empty() const { return tokens_.empty(); }
  struct Match {
    const AddedToken* token;  // nullptr: none until the end
    size_t begin, end;        // with the white space that the token swallows
  };
  // The first match at or after `from`. Without `control`, control tokens are passed over whole: nothing
  // inside one matches.
  Match find(std::string_view text, size_t from, bool control) const;

 private:
  struct Node {
    int32_t token = -1;
  };
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_ = {Node{}};
  std::unordered_map<uint64_t, uint32_t> edges_;  // node << 8 | byte -> node
  std::array<bool, 256> starts_{};
};

}  // namespace retort
