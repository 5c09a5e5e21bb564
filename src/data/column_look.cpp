#include "data/column_look.h"

#include <algorithm>

#include "base/letters.h"
#include "data/json_records.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr size_t kLongestLabel = 60;  // bytes
constexpr size_t kMostNested = 200;   // objects may be maps of any keys
constexpr int kDeepestNested = 3;

void add(ColumnLook& column, const std::string& value, const Json* json) {
  if (trimmed(value).empty() || (json && json->is_null())) return;
  ++column.filled;
  column.bytes += static_cast<int64_t>(value.size());
  if (column.first.empty()) column.first = value;
  if (json && json->is_array())
    ++(!json->empty() && json->front().is_object() ? column.conversations : column.lists);
  column.objects += json && json->is_object();
  if (column.hashes.size() < ColumnLook::kMostCounted) column.hashes.insert(std::hash<std::string>()(value));
  if (column.many_values || value.size() > kLongestLabel || column.values.size() >= ColumnLook::kMostValues)
    column.many_values = column.many_values || !column.values.contains(value);
  else column.values.insert(value);
}

// nullptr when there are `most` others already.
ColumnLook* column_of(std::vector<ColumnLook>& columns, const std::string& name, size_t most) {
  for (auto& column : columns)
    if (column.name == name) return &column;
  if (columns.size() >= most) return nullptr;
  columns.emplace_back().name = name;
  return &columns.back();
}

// The members of an object, by names that a {placeholder} can reach.
void add_nested(std::vector<ColumnLook>& nested, const std::string& outer, const Json& object, int depth) {
  for (auto member = object.begin(); member != object.end(); ++member) {
    if (member.key().empty() || member.key().find_first_of(".:[]{}*, ") != std::string::npos) continue;
    const auto name = outer + "." + member.key();
    const auto& value = member.value();
    if (value.is_object() && depth < kDeepestNested) add_nested(nested, name, value, depth + 1);
    if (auto* column = column_of(nested, name, kMostNested))
      add(*column, value.is_string() ? value.get<std::string>() : value.dump(), &value);
  }
}

}  // namespace

const ColumnLook* ColumnsLook::find_nested(std::string_view word) const {
  const ColumnLook* found = nullptr;
  for (const auto& column : nested) {
    if (lower_case(column.last_word()) != word || 2 * column.filled < records) continue;
    if (found) return nullptr;
    found = &column;
  }
  return found;
}

const ColumnLook* ColumnsLook::find(std::string_view name) const {
  for (const auto& column : columns)
    if (lower_case(column.name) == name && 2 * column.filled >= records) return &column;
  return nullptr;
}

const ColumnLook* ColumnsLook::find_any(std::initializer_list<std::string_view> names) const {
  for (const auto name : names)
    if (const auto* column = find(name)) return column;
  return nullptr;
}

bool ColumnsLook::is_label(const ColumnLook& column) const {
  return !column.many_values && column.conversations + column.lists + column.objects == 0 &&
         2 * column.filled >= records && 2 * static_cast<int64_t>(column.values.size()) <= records;
}

ColumnsLook look_at_columns(const SourceSpec& source, const TakeBad& bad) {
  ColumnsLook look;
  const auto top = [&](const std::string& name) -> ColumnLook& {
    return *column_of(look.columns, name, SIZE_MAX);
  };
  read_rows(
      source,
      [&](Row row) {
        ++look.records;
        if (row.kind == Row::Kind::columns)
          for (const auto& [name, value] : row.columns) add(top(name), value, nullptr);
        if (row.kind != Row::Kind::json) return;
        try {
          const auto object = parse_json_line(row.raw, row.place);
          for (const auto& [name, value] : json_columns(row.raw)) {
            const auto& json = object.at(name);
            add(top(name), value, &json);
            if (json.is_object() && name.find_first_of(".:[]{}") == std::string::npos)
              add_nested(look.nested, name, json, 1);
          }
        } catch (const FormatError& error) {
          --look.records;
          if (bad) bad(error.what());
        }
      },
      [] {}, bad ? bad : TakeBad([](const std::string&) {}));
  return look;
}

}  // namespace retort
