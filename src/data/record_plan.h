// What becomes of each record, known before any is tokenized: a first pass over the sources keeps hashes and
// decides by them.
#pragma once
#include <cstdint>
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

struct RecordPlan {
  std::vector<PlannedRow> rows;             // of all sources
  std::vector<RejectionCounts> rejections;  // one for each source with a reject section
  int64_t records = 0, duplicates = 0, repeats = 0, left_out = 0;  // see DatasetCounts
};

// Rejects, keeps `limit` of each source, splits by hash, weighs. RecipeError when nothing is left of a
// source.
RecordPlan plan_records(const DataSpec& spec, const RecordSource& source);

// For records that were chosen before: nothing is rejected, and no limit counts.
RecordPlan plan_chosen(const DataSpec& spec, const RecordSource& source);

}  // namespace retort
