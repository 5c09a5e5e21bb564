#include "data/unused_columns.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"
#include "data/json_records.h"
#include "data/record.h"

namespace retort {
namespace {

// What a source takes: whole columns, whose names may have dots and brackets, and else paths:
// "sample.answer". Of lists the whole is taken, whatever item of theirs is named.
class Taken {
 public:
  Taken(const SourceSpec& source, std::string_view kind, const ColumnsLook& look) {
    for (const auto* pattern : {&source.prompt, &source.completion, &source.system, &source.group})
      for (const auto& name : placeholder_names(*pattern, "data.sources[0]")) add(name, look);
    if (source.prompt.empty()) add_kind(source, kind, look);
  }

  bool whole(std::string_view column) const {
    if (std::find(columns_.begin(), columns_.end(), column) != columns_.end()) return true;
    return std::any_of(paths_.begin(), paths_.end(),
                       [&](const std::string& path) { return path == column || is_inside(column, path); });
  }
  bool part(std::string_view column) const {
    return std::any_of(paths_.begin(), paths_.end(),
                       [&](const std::string& path) { return is_inside(path, column); });
  }

 private:
  // "sample.answer" is inside of "sample".
  static bool is_inside(std::string_view name, std::string_view object) {
    return name.size() > object.size() && name.starts_with(object) && name[object.size()] == '.';
  }
  void add(const std::string& name, const ColumnsLook& look) {
    for (const auto& column : look.columns)
      if (column.name == name) return columns_.push_back(name);
    paths_.push_back(name);
    if (const auto bracket = name.find('['); bracket != std::string::npos)
      paths_.push_back(name.substr(0, bracket));
  }

  // Records that say by their keys what they are.
  void add_kind(const SourceSpec& source, std::string_view kind, const ColumnsLook& look) {
    for (const auto& [ours, theirs] : source.fields_of_records.entries)
      if (ours != "role" && ours != "content")  // of messages
        add(Json::parse(theirs).get<std::string>(), look);
    for (const auto& column : look.columns)
      if (reads_key(kind, column.name) || says_what_is_learned(column)) columns_.push_back(column.name);
  }

  // KTO's label, Axolotl's train: heard where they are yes and no, and columns like others where they are
  // not.
  static bool says_what_is_learned(const ColumnLook& column) {
    constexpr std::string_view kNames[] = {"label", "train", "training", "weight"};
    constexpr std::string_view kYesAndNo[] = {"true", "false", "True", "False", "TRUE", "FALSE"};
    if (std::find(std::begin(kNames), std::end(kNames), column.name) == std::end(kNames)) return false;
    return !column.many_values && !column.values.empty() &&
           std::all_of(column.values.begin(), column.values.end(), [&](const std::string& value) {
             return std::find(std::begin(kYesAndNo), std::end(kYesAndNo), value) != std::end(kYesAndNo) ||
                    (column.name == "weight" && (value == "0" || value == "1"));
           });
  }

  std::vector<std::string> columns_, paths_;
};

std::string shown(const ColumnLook& column) {
  if (column.name.empty()) return "a column without a name";
  return printable(column.name) + (column.filled == 0 ? " (empty)" : "");
}

}  // namespace

std::vector<std::string> unused_columns(const SourceSpec& source, std::string_view kind,
                                        const ColumnsLook& look) {
  if (look.columns.empty()) return {};
  const Taken taken(source, kind, look);
  std::vector<std::string> unused;
  for (const auto& column : look.columns) {
    if (taken.whole(column.name)) continue;
    if (!taken.part(column.name)) {
      unused.push_back(shown(column));
      continue;
    }
    for (const auto& inner : look.nested) {
      if (!inner.name.starts_with(column.name + ".")) continue;
      const auto outer = inner.name.substr(0, inner.name.rfind('.'));
      if (taken.part(outer) && !taken.whole(inner.name) && !taken.part(inner.name))
        unused.push_back(shown(inner));
    }
  }
  return unused;
}

}  // namespace retort
