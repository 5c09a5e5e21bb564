// What the readers deliver: conversations or texts, with the place they came from.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/hash.h"
#include "data/data_spec.h"
#include "text/chat.h"

namespace retort {

using Columns = std::vector<std::pair<std::string, std::string>>;  // name, value, in file order

struct Record {
  std::vector<Message> messages;  // ends with an assistant message; empty when the record is a text
  std::string text;               // kind text: no conversation
  Columns columns;                // what the file said, for formats with columns
  std::string place;              // "file:line" (or "file:code", "file"), for errors and sample ids
  std::string group;   // equal groups stay on one side of the split; empty: the record is its own group
  int32_t source = 0;  // index into DataSpec::sources

  // What the model is to say, and what comes before it. A text has no prompt.
  std::string completion() const { return messages.empty() ? text : messages.back().content; }
  std::vector<Message> prompt() const {
    return messages.empty() ? messages : std::vector<Message>(messages.begin(), messages.end() - 1);
  }
};

// All records of all sources, in file order. FormatError with file and line for a broken record, RecipeError
// for a spec that does not fit the file (unknown column, no kind recognised).
struct RejectionCounts;  // data/reject.h; one for each source with a reject section
std::vector<Record> read_records(const DataSpec& spec, std::vector<RejectionCounts>* rejections = nullptr);
// Of one source, without its limit.
std::vector<Record> read_records(const SourceSpec& source, int32_t index,
                                 std::vector<RejectionCounts>* rejections = nullptr);

// The files that a source reads, in order. RecipeError for a folder or a pattern that names files of several
// formats, or those to train on together with those to test on.
std::vector<std::string> source_files(const SourceSpec& source);

// "text {name} {name:80}": throws RecipeError for an unknown column or a broken placeholder. `{name:80}` cuts
// at a character and word boundary at or before 80 bytes. A name may go on inside of a column that holds JSON
// (json_path.h).
// `used_empty` becomes true when a column that is used holds nothing but white space.
std::string fill_placeholders(std::string_view pattern, const Columns& columns, std::string_view key_path,
                              bool* used_empty = nullptr);

// The names in the braces of a pattern, without their limits, none where it is the same text for every
// record; RecipeError as above for a broken one.
std::vector<std::string> placeholder_names(std::string_view pattern, std::string_view key_path);

// Of the sha256 over roles and contents: equal for equal samples wherever they come from.
ContentKey record_key(const Record& record);
// The same of what comes before the answer; texts have none and share one key.
ContentKey prompt_key(const Record& record);

}  // namespace retort
