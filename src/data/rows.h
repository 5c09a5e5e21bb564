// The sources row by row, as their readers deliver them, and how a row becomes a record. Rows are cheap and
// come in order from one thread; what costs time (JSON, checks of the text, placeholders) happens when a row
// becomes a record, on any thread.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/readers.h"
#include "data/record.h"
#include "data/reshape.h"

namespace retort {

// What skip_empty leaves out: a record without a text where one is needed.
struct EmptyRecord : FormatError {
  using FormatError::FormatError;
};

struct Row {
  enum class Kind { json, columns, line, text } kind = Kind::text;
  std::string_view raw;                    // json, line: bytes of the file; not checked yet
  std::shared_ptr<const MappedFile> file;  // what `raw` lies in, when that is the file itself
  Columns columns;
  std::string text;
  std::string place;                             // "file:line"
  std::shared_ptr<const std::string> held = {};  // what `raw` lies in, of a Parquet or Arrow file
  size_t bytes() const;                          // of text that it holds or points at
};

// "jsonl", "csv", ...: what the source says, or what its files end with; RecipeError when neither is known.
std::string source_format(const SourceSpec& source);
// RecipeError for a source of data.sources that is not there, by its place in the list.
void require_sources(const std::vector<SourceSpec>& sources);
// ".csv" of "x.csv" and of "x.csv.gz".
std::string ending_of(const std::filesystem::path& path);

// Calls `take` for each row of the source, in file order. FormatError for what a reader refuses, after all
// rows before it. `file_done` is called at the end of each file: no row may point into it any more
// afterwards. `bad`, where it is set, hears of rows that a reader would refuse, and the reading goes on.
void read_rows(const SourceSpec& source, const std::function<void(Row row)>& take,
               const std::function<void()>& file_done, const TakeBad& bad = nullptr);

// The rows of a Parquet or Arrow file as JSON, "file:row" their places. `held`: what `line` lies in.
// FormatError for a damaged file, Failure where retort-tables is not built.
using TakeTableRow =
    std::function<void(std::string_view line, std::string place, std::shared_ptr<const std::string> held)>;
void read_table_rows(const MappedFile& file, const TakeTableRow& take);

// One source's rows to records: messages or a text, columns, place, group. Nothing is rejected or chosen
// here.
class RecordMaker {
 public:
  // `index` is the source's place in data.sources. RecipeError for keys that do not go together.
  RecordMaker(const SourceSpec& source, int32_t index);
  // The first row says what kind of records these are, where the recipe does not. Call it before make().
  void settle(const Row& first);
  // FormatError or RecipeError with the row's place. May be called by several threads at a time.
  Record make(Row row) const;
  const std::string& where() const { return where_; }  // "data.sources[0]"
  const std::string& kind() const { return kind_; }    // of JSON and columns, once it is settled
  bool skips_bad_records() const { return source_.on_bad_record == "skip"; }

 private:
  Record blank(Columns columns, std::string place) const;
  Record finished(Record record) const;
  // The pattern of one of the source's keys with the record's columns; RecipeError with the record's place.
  std::string filled(std::string_view pattern, const Record& record, std::string_view key) const;
  Record of_json(std::string_view line, std::string place) const;
  Record of_columns(Columns columns, std::string place) const;
  Record of_text(std::string text, std::string place) const;
  const SourceSpec& source_;
  int32_t index_;
  std::string where_, kind_;
  Reshape reshape_;
  bool uses_columns_ = false;
};

}  // namespace retort
