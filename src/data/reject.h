// Rejection sampling: which of the generated answers of a source are good enough to learn from, and how many
// were not.
#pragma once
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "base/hash.h"
#include "data/record.h"
#include "text/pattern.h"
#include "text/thoughts.h"

namespace retort {

// Why a record was left out; the first reason that holds, in this order.
enum class Rejection { unfinished, too_short, too_long, forbidden, unmatched, wrong, duplicate, surplus };
inline constexpr size_t kRejections = 8;

// One source's records, counted.
struct RejectionCounts {
  std::string path;
  int64_t records = 0;
  std::array<int64_t, kRejections> rejected = {};
  int64_t total() const;
};
// "data/x.jsonl: 12 of 40 records rejected: 5 with a wrong answer, 7 too short"
std::string describe(const RejectionCounts& counts);

// Judges the records of one source in file order.
class Judge {
 public:
  // `where`: "data.sources[0]". RecipeError for a regular expression that is not understood, and for settings
  // that do not go together.
  Judge(const RejectSpec& spec, const std::string& where);
  // Nothing: the record is kept, and counts against those that follow.
  std::optional<Rejection> judge(const Record& record);

 private:
  std::string filled(const std::string& pattern, const Record& record, const char* key) const;
  bool right(const Record& record, std::string_view answer) const;
  const RejectSpec& spec_;
  std::string where_;
  ThoughtMarks own_;  // spec_.thoughts
  std::optional<Pattern> wanted_, forbidden_;
  std::set<ContentKey> kept_;              // prompts with the words of an answer
  std::map<ContentKey, int64_t> answers_;  // by prompt
};

}  // namespace retort
