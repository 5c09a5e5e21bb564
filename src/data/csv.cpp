#include <set>

#include "base/error.h"
#include "base/stop.h"
#include "data/readers.h"

namespace retort {
namespace {

constexpr size_t kMostFields = size_t{1} << 20;  // of a row

// Reads one record from `at`; counts lines. Quoted fields may span lines.
class CsvRows {
 public:
  CsvRows(std::string_view content, std::string_view file, CsvForm form)
      : content_(content), file_(file), delimiter_(form.delimiter), quotes_(form.quotes) {}

  bool next(std::vector<std::string>& fields) {
    fields.clear();
    if (at_ >= content_.size()) return false;
    row_line_ = line_;
    const size_t row_begin = at_;
    while (true) {
      if (fields.size() == kMostFields)
        corrupt(place(), "", fmt::format("row of more than {} fields; is delimiter right?", kMostFields));
      fields.emplace_back();
      if (quotes_ && at_ < content_.size() && content_[at_] == '"') quoted(fields.back(), row_begin);
      else plain(fields.back());
      if (at_ - row_begin > kLongestLine)
        corrupt(place(), "", "record of more than " + bytes(kLongestLine) + "; is a closing quote missing?");
      if (at_ >= content_.size()) return true;
      const char c = content_[at_++];
      if (c == delimiter_) continue;
      if (c == '\r' && at_ < content_.size() && content_[at_] == '\n') ++at_;
      ++line_;
      return true;
    }
  }
  // After a row that could not be read: goes on with the next line.
  void skip_line() {
    at_ = std::min(content_.find('\n', at_), content_.size());
    if (at_ < content_.size()) ++at_;
    ++line_;
  }
  size_t at() const { return at_; }
  std::string place() const { return fmt::format("{}:{}", file_, row_line_); }

 private:
  void quoted(std::string& field, size_t row_begin) {
    ++at_;
    while (true) {
      if (at_ >= content_.size())
        corrupt(place(), fmt::format("field that begins in line {}", row_line_), "closing quote is missing");
      if (at_ - row_begin > kLongestLine)
        corrupt(place(), "", "record of more than " + bytes(kLongestLine) + "; is a closing quote missing?");
      const char c = content_[at_++];
      if (c == '\n') ++line_;
      if (c != '"') {
        field += c;
      } else if (at_ < content_.size() && content_[at_] == '"') {
        field += '"';
        ++at_;
      } else {
        break;
      }
    }
    if (at_ < content_.size() && content_[at_] != delimiter_ && content_[at_] != '\n' &&
        content_[at_] != '\r')
      corrupt(place(), "", "text after a closing quote; write a quote inside a quoted field twice");
  }
  void plain(std::string& field) {
    const auto begin = at_;
    while (at_ < content_.size() && content_[at_] != delimiter_ && content_[at_] != '\n' &&
           content_[at_] != '\r') {
      if (quotes_ && content_[at_] == '"')
        corrupt(
            place(), "",
            "quote inside a field that is not quoted; quote the whole field and write the quote twice, or, "
            "where quotes are characters like others, set quotes: none of its source");
      ++at_;
    }
    field.assign(content_.substr(begin, std::min(at_ - begin, kLongestLine + 1)));  // longer ones are refused
  }

  std::string_view content_;
  std::string file_;
  char delimiter_;
  bool quotes_;
  size_t at_ = 0, line_ = 1, row_line_ = 1;
};

// A row whose quotes are wrong ends with its line when reading goes on.
bool next_row(CsvRows& rows, std::vector<std::string>& fields, const TakeBad& bad) {
  try {
    return rows.next(fields);
  } catch (const FormatError&) {
    if (bad) rows.skip_line();
    throw;
  }
}

Columns named(const std::vector<std::string>& names, std::vector<std::string>& fields,
              const std::string& place) {
  if (fields.size() != names.size())
    corrupt(place, "",
            fmt::format("{} fields; the header names {} columns{}", fields.size(), names.size(),
                        fields.size() > names.size()
                            ? " and is shorter than this row; name every column, and quote fields that hold "
                              "the delimiter"
                            : "; is the row cut, or does a field hold a line break without quotes?"));
  Columns columns;
  columns.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    require_text(fields[i], place, names[i]);
    columns.emplace_back(names[i], std::move(fields[i]));
  }
  return columns;
}

// Fields of the first two rows; 0 for what cannot be read so.
std::pair<size_t, size_t> fields_of(std::string_view content, CsvForm form) {
  CsvRows rows(content, "", form);
  std::vector<std::string> header, first;
  try {
    if (!rows.next(header) || !rows.next(first)) return {header.size(), 0};
  } catch (const FormatError&) { return {header.size(), 0}; }
  return {header.size(), first.size()};
}

}  // namespace

char guessed_delimiter(std::string_view content, CsvForm usual) {
  content = without_bom(content);
  char best = usual.delimiter;
  auto [most, first] = fields_of(content, usual);
  if (most != first) most = 1;
  for (const char delimiter : {',', ';', '\t', '|'}) {
    const auto [named_columns, fields] = fields_of(content, {delimiter, usual.quotes});
    if (named_columns != fields || named_columns <= most) continue;
    best = delimiter;
    most = named_columns;
  }
  return best;
}

void read_csv(std::string_view content, std::string_view file, CsvForm form, const TakeColumns& take,
              const std::function<void(size_t)>& passed, const TakeBad& bad) {
  CsvRows rows(without_bom(content), file, form);
  std::vector<std::string> names, fields;
  if (!rows.next(names)) corrupt(file, "", "is empty; expected a header row with column names");
  std::set<std::string> seen;
  for (const auto& name : names) {
    require_text(name, rows.place(), "header");
    if (name.empty()) corrupt(rows.place(), "header", "a column has no name");
    if (!seen.insert(name).second) corrupt(rows.place(), name, "two columns have this name");
  }
  size_t records = 0, broken = 0;
  while (true) {
    Columns columns;
    try {
      if (!next_row(rows, fields, bad)) break;
      if (fields.size() == 1 && fields[0].empty() && names.size() > 1) continue;  // blank line
      columns = named(names, fields, rows.place());
    } catch (const FormatError& error) {
      if (!bad) throw;
      bad(error.what());
      ++broken;
      continue;
    }
    take(std::move(columns), rows.place());
    if (++records % 1024 != 0) continue;
    leave_if_stopped("reading samples");
    if (passed) passed(rows.at());
  }
  if (records + broken == 0) corrupt(file, "", "holds a header but no rows");
}

}  // namespace retort
