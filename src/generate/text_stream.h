// The text of an answer as its tokens arrive: stop strings are found across token borders, and what is shown
// never has to be taken back.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace retort {

class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops);
  // Adds a token's bytes. True when a stop string is now complete: the text ends before the earliest one.
  bool push(std::string_view token_bytes);
  // Bytes that are certain to be part of the answer and end at a character border, not taken before. A
  // possible beginning of a stop string and an incomplete UTF-8 sequence are held back; `last`: nothing more
  // comes, hold nothing back.
  std::string_view take(bool last = false);
  const std::string& text() const { return text_; }
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  size_t longest_ = 0;
  std::string text_;
  size_t taken_ = 0;
  bool stopped_ = false;
};

// Bytes at the end of `text` that begin a UTF-8 sequence without completing it: 0 to 3.
size_t incomplete_tail(std::string_view text);

}  // namespace retort
