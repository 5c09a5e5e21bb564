// What becomes of each record, known before any is tokenized: a first pass over the sources keeps hashes and
// decides by them.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/data_spec.h"
#include "data/record_source.h"
#include "data/reject.h"

namespace retort {

enum class Side : uint8_t { none, train, held_out };  // none: rejected, or beyond the source's limit

struct PlannedRow {
  Side side = Side::none;
  int64_t copies = 0;  // samples made of it; 0 of a training record that its source's weight leaves out
};

// Records of one source that were left out because they cannot be read, or have no text.
struct BadRecords {
  static constexpr size_t kShown = 10;
  std::string path;
  int64_t count = 0, empty = 0;
  std::vector<std::string> first;  // the first ten: "file:line: what is wrong"
  void add(const std::string& problem, bool without_text);
};
// "x.jsonl: 50 bad records left out (on_bad_record: skip), 3 without a text (skip_empty)" and a line for each
// of the first ten.
std::string describe(const BadRecords& bad);

// What a source gives: records that are used, and samples made of them in an epoch.
struct SourceUse {
  int64_t records = 0, train = 0, held_out = 0, samples = 0;
};

struct RecordPlan {
  std::vector<PlannedRow> rows;    // of all sources
  std::vector<BadRecords> bad;     // one for each source that has any
  std::vector<SourceUse> sources;  // one for each source
  int64_t groups = 0,
          held_out_groups = 0;  // of the records; a record without one is its own, equal ones share
  std::vector<RejectionCounts> rejections;  // one for each source with a reject section
  int64_t records = 0, duplicates = 0, repeats = 0, left_out = 0;  // see DatasetCounts
  // Records that these settings left out.
  int64_t near_duplicates = 0, personal = 0, forgotten = 0;
};

// "12 records left out that are nearly the same as another (data.near_duplicates)" and the like.
std::vector<std::string> left_out_lines(const RecordPlan& plan);

// Rejects, leaves out personal data and near duplicates where asked for, keeps `limit` of each source, splits
// by hash, weighs. RecipeError when nothing is left of a source.
RecordPlan plan_records(const DataSpec& spec, const RecordSource& source);

// For records that were chosen before: nothing is rejected, and no limit counts.
RecordPlan plan_chosen(const DataSpec& spec, const RecordSource& source);

}  // namespace retort
