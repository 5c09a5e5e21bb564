// What the columns of a file hold, as somebody sees it who pages through the file.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

#include "data/rows.h"

namespace retort {

struct ColumnLook {
  static constexpr size_t kMostValues = 50;       // that are kept to be listed
  static constexpr size_t kMostCounted = 200000;  // that are told apart
  std::string name;
  int64_t filled = 0, bytes = 0;
  int64_t conversations = 0, lists = 0, objects = 0;  // of JSON: lists of objects, other lists, objects
  std::set<std::string> values;                       // of the shorter ones, until there are too many
  bool many_values = false;
  std::unordered_set<size_t> hashes;
  std::string first;  // the first value that is not empty

  std::string_view last_word() const { return std::string_view(name).substr(name.rfind('.') + 1); }
  double mean_bytes() const { return filled ? static_cast<double>(bytes) / static_cast<double>(filled) : 0; }
};

// The columns of a source's records and how many records there are.
struct ColumnsLook {
  int64_t records = 0;
  std::vector<ColumnLook> columns;  // in the order of the file
  std::vector<ColumnLook> nested;   // what objects in them hold, under names such as sample.question

  // By its name, whatever its case; nullptr when there is none, or it is empty in half of the records.
  const ColumnLook* find(std::string_view name) const;
  const ColumnLook* find_any(std::initializer_list<std::string_view> names) const;
  // The one nested column whose last word this is, whatever its case; nullptr when there is none, or several.
  const ColumnLook* find_nested(std::string_view word) const;
  // Few short values that come again and again, as labels do.
  bool is_label(const ColumnLook& column) const;
};

// Reads all of it. Records that cannot be read are passed over; `bad` hears of them.
ColumnsLook look_at_columns(const SourceSpec& source, const TakeBad& bad);

}  // namespace retort
