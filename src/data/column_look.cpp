#include "data/column_look.h"

#include <algorithm>

#include "data/json_records.h"
#include "text/chat_pieces.h"

namespace retort {
namespace {

constexpr size_t kLongestLabel = 60;  // bytes

std::string lower(std::string_view text) {
  std::string made(text);
  std::transform(made.begin(), made.end(), made.begin(), [](unsigned char c) { return std::tolower(c); });
  return made;
}

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

}  // namespace

const ColumnLook* ColumnsLook::find(std::string_view name) const {
  for (const auto& column : columns)
    if (lower(column.name) == name && 2 * column.filled >= records) return &column;
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
  const auto column_of = [&](const std::string& name) -> ColumnLook& {
    for (auto& column : look.columns)
      if (column.name == name) return column;
    look.columns.emplace_back().name = name;
    return look.columns.back();
  };
  read_rows(
      source,
      [&](Row row) {
        ++look.records;
        if (row.kind == Row::Kind::columns)
          for (const auto& [name, value] : row.columns) add(column_of(name), value, nullptr);
        if (row.kind != Row::Kind::json) return;
        try {
          const auto object = parse_json_line(row.raw, row.place);
          for (const auto& [name, value] : json_columns(row.raw))
            add(column_of(name), value, &object.at(name));
        } catch (const FormatError& error) {
          --look.records;
          if (bad) bad(error.what());
        }
      },
      [] {}, bad ? bad : TakeBad([](const std::string&) {}));
  return look;
}

}  // namespace retort
