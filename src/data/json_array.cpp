// Records that stand in one JSON array.
#include "base/error.h"
#include "base/stop.h"
#include "data/readers.h"

namespace retort {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Finds where each value of the outermost array begins and ends; what it says is for the parser.
class ArrayScan {
 public:
  ArrayScan(std::string_view content, std::string_view file) : content_(content), file_(file) {
    skip_space();
    ++at_;  // the bracket
  }

  // The next record; false at the end of the array.
  bool next(std::string_view& record, std::string& place) {
    skip_space();
    if (first_ && here() == ']') return close();
    if (!first_) {
      if (here() == ']') return close();
      if (here() != ',') corrupt(this->place(), "", "expected ',' or ']' after a record of the JSON array");
      ++at_;
      skip_space();
    }
    first_ = false;
    place = this->place();
    const auto begin = at_, line = line_;
    size_t depth = 0;
    bool inside = false;  // a text
    for (;; ++at_) {
      if (at_ - begin > kLongestLine)
        corrupt(place, "", "record of more than " + bytes(kLongestLine) + "; is a bracket or quote missing?");
      const char c = here();
      if (c == '\n') ++line_;
      if (inside) {
        if (c == '\\' && at_ + 1 < content_.size()) ++at_;
        else if (c == '"') inside = false;
        continue;
      }
      if (c == '"') inside = true;
      else if (c == '{' || c == '[') ++depth;
      else if (depth == 0 && (c == ',' || c == ']')) break;
      else if ((c == '}' || c == ']') && --depth == 0) {
        ++at_;
        break;
      }
    }
    record = content_.substr(begin, at_ - begin);
    if (record.empty()) corrupt(fmt::format("{}:{}", file_, line), "", "expected a record of the JSON array");
    return true;
  }

 private:
  // The character to look at; the array must not end before it is closed.
  char here() const {
    if (at_ >= content_.size())
      corrupt(
          file_, "",
          fmt::format("the JSON array is never closed; the file ends in line {}. Is it complete?", line_));
    return content_[at_];
  }
  void skip_space() {
    while (at_ < content_.size() && kSpace.find(content_[at_]) != kSpace.npos)
      if (content_[at_++] == '\n') ++line_;
  }
  bool close() {
    ++at_;
    skip_space();
    if (at_ < content_.size()) corrupt(place(), "", "text after the JSON array");
    return false;
  }
  std::string place() const { return fmt::format("{}:{}", file_, line_); }

  std::string_view content_, file_;
  size_t at_ = 0, line_ = 1;
  bool first_ = true;
};

}  // namespace

bool is_json_array(std::string_view content) {
  content = without_bom(content);
  const auto first = content.find_first_not_of(kSpace);
  return first != content.npos && content[first] == '[';
}

void read_json_array(std::string_view content, std::string_view file,
                     const std::function<void(std::string_view record, std::string place)>& take) {
  ArrayScan scan(without_bom(content), file);
  std::string_view record;
  std::string place;
  for (size_t count = 0; scan.next(record, place);) {
    if (++count % 1024 == 0) leave_if_stopped("reading samples");
    take(record, place);
  }
}

}  // namespace retort
