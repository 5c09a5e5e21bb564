// records.tsv of a run: every record that its sources gave, by hash, with what became of it. No text of a
// record is in it, so that the question whether somebody's record was learned has an answer without one.
//
//   hash  group  side  uses  first  samples  place       between tabs, a record a line
//
// hash: the first half of the SHA-256 over roles and contents; group: the same of the group's text, or "-";
// side: train, held_out or left_out; uses: in an epoch; first and samples: which training samples were made
// of it, by number from 0; place: file and line, or data.canaries:1 and so on of those that were planted.
#pragma once
#include <functional>
#include <set>

#include "data/dataset.h"
#include "data/record_source.h"

namespace retort {

struct ListedRecord {
  std::string hash, group, side;
  int64_t uses = 0, first = 0, samples = 0;
  std::string place;
};

inline constexpr const char* kRecordsFile = "records.tsv";

// 32 lower-case digits.
std::string record_hash(const ContentKey& key);
std::string record_hash(const Record& record);
std::string group_hash(std::string_view group);
bool is_record_hash(std::string_view text);

// Whether a sample was made of the record at this place: "file:7", "file:7#2" (a piece), "file:7, answer 1".
bool is_made_of(std::string_view id, std::string_view place);

const char* side_of(const PlannedRow& row);  // "train", "held_out", "left_out"

void write_record_list(const std::filesystem::path& file, const RecordSource& source, const RecordPlan& plan,
                       const Samples& train, const CanarySpec& canaries = {});
// Calls `take` for each line; FormatError names the line that is none.
void read_record_list(const std::filesystem::path& file,
                      const std::function<void(const ListedRecord&)>& take);

// The hashes of a list to forget: one a line, '#' begins a comment; none where there is no such file.
// RecipeError names a line that is neither.
std::set<std::string> read_forget_list(const std::filesystem::path& file);

}  // namespace retort
