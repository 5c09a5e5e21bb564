#include "tables/json_values.h"

#include <arrow/util/decimal.h>
#include <arrow/util/float16.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <stdexcept>

namespace retort {
namespace {

using arrow::Type;

// Whether these bytes are UTF-8 without NUL.
bool is_text(std::string_view bytes) {
  for (size_t i = 0; i < bytes.size();) {
    const auto c = static_cast<unsigned char>(bytes[i]);
    const size_t length = c == 0         ? 0
                          : c < 0x80     ? 1
                          : c >> 5 == 6  ? 2
                          : c >> 4 == 14 ? 3
                          : c >> 3 == 30 ? 4
                                         : 0;
    if (length == 0 || i + length > bytes.size()) return false;
    uint32_t code = length == 1 ? c : c & (0x7Fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(bytes[i + k]);
      if (next >> 6 != 2) return false;
      code = code << 6 | (next & 0x3Fu);
    }
    constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    i += length;
  }
  return true;
}

template <class Array> void whole(const arrow::Array& array, int64_t at, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{}", static_cast<const Array&>(array).Value(at));
}

// The shortest spelling that reads as the same number, of the type that it has in the file.
template <class Number> void real(Number value, std::string& out) {
  if (std::isnan(value)) {
    out += "null";
  } else if (std::isinf(value)) {
    out += value > 0 ? "\"inf\"" : "\"-inf\"";
  } else {
    const auto begin = out.size();
    fmt::format_to(std::back_inserter(out), "{}", value);
    if (out.find_first_of(".e", begin) == std::string::npos) out += ".0";
  }
}

constexpr int64_t kSecondsOfADay = 86400;

int64_t units_a_second(arrow::TimeUnit::type unit) {
  return unit == arrow::TimeUnit::SECOND  ? 1
         : unit == arrow::TimeUnit::MILLI ? 1000
         : unit == arrow::TimeUnit::MICRO ? 1000000
                                          : 1000000000;
}

// False for days outside of the years that ISO 8601 spells.
bool date(int64_t days, std::string& out) {
  if (days < -719162 || days > 2932896) return false;
  const std::chrono::year_month_day day{std::chrono::sys_days(std::chrono::days(days))};
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}", static_cast<int>(day.year()),
                 static_cast<unsigned>(day.month()), static_cast<unsigned>(day.day()));
  return true;
}

void clock(int64_t seconds, int64_t fraction, int64_t units, std::string& out) {
  fmt::format_to(std::back_inserter(out), "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60,
                 seconds % 60);
  if (fraction == 0) return;
  const int digits = units == 1000 ? 3 : units == 1000000 ? 6 : 9;
  fmt::format_to(std::back_inserter(out), ".{:0{}}", fraction, digits);
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }

void timestamp(int64_t value, const arrow::TimestampType& type, std::string& out) {
  const auto units = units_a_second(type.unit());
  const auto seconds = floor_divide(value, units), days = floor_divide(seconds, kSecondsOfADay);
  std::string text;
  if (!date(days, text)) {
    fmt::format_to(std::back_inserter(out), "{}", value);
    return;
  }
  text += 'T';
  clock(seconds - days * kSecondsOfADay, value - seconds * units, units, text);
  out += '"' + text + (type.timezone().empty() ? "\"" : "Z\"");
}

void of_days(int64_t days, std::string& out) {
  std::string text;
  if (date(days, text)) out += '"' + text + '"';
  else fmt::format_to(std::back_inserter(out), "{}", days);
}

void time_of_day(int64_t value, arrow::TimeUnit::type unit, std::string& out) {
  const auto units = units_a_second(unit);
  if (value < 0 || value / units >= kSecondsOfADay) {
    fmt::format_to(std::back_inserter(out), "{}", value);
    return;
  }
  out += '"';
  clock(value / units, value % units, units, out);
  out += '"';
}

void bytes_of(std::string_view bytes, std::string& out) {
  if (is_text(bytes)) append_json_text(bytes, out);
  else fmt::format_to(std::back_inserter(out), "{{\"bytes\": {}}}", bytes.size());
}

void items(const arrow::Array& values, int64_t begin, int64_t end, std::string& out) {
  out += '[';
  for (auto i = begin; i < end; ++i) {
    if (i > begin) out += ", ";
    append_json(values, i, out);
  }
  out += ']';
}

template <class List> void list(const arrow::Array& array, int64_t at, std::string& out) {
  const auto& lists = static_cast<const List&>(array);
  const auto begin = static_cast<int64_t>(lists.value_offset(at));
  items(*lists.values(), begin, begin + static_cast<int64_t>(lists.value_length(at)), out);
}

void members(const arrow::StructArray& structs, int64_t at, std::string& out) {
  out += '{';
  for (int i = 0; i < structs.num_fields(); ++i) {
    if (i > 0) out += ", ";
    append_json_text(structs.type()->field(i)->name(), out);
    out += ": ";
    append_json(*structs.field(i), at, out);  // of the slice
  }
  out += '}';
}

void map(const arrow::MapArray& maps, int64_t at, std::string& out) {
  const auto& keys = *maps.keys();
  const bool named = keys.type_id() == Type::STRING || keys.type_id() == Type::LARGE_STRING;
  out += named ? '{' : '[';
  const auto begin = maps.value_offset(at), end = begin + maps.value_length(at);
  for (auto i = begin; i < end; ++i) {
    if (i > begin) out += ", ";
    if (!named) out += "{\"key\": ";
    append_json(keys, i, out);
    out += named ? ": " : ", \"value\": ";
    append_json(*maps.items(), i, out);
    if (!named) out += '}';
  }
  out += named ? '}' : ']';
}

template <class Array> std::string_view view(const arrow::Array& array, int64_t at) {
  return static_cast<const Array&>(array).GetView(at);
}

}  // namespace

void append_json_text(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20)
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    else out += c;
  }
  out += '"';
}

void append_json(const arrow::Array& array, int64_t at, std::string& out) {
  if (array.IsNull(at)) {
    out += "null";
    return;
  }
  switch (array.type_id()) {
    case Type::NA: out += "null"; return;
    case Type::BOOL:
      out += static_cast<const arrow::BooleanArray&>(array).Value(at) ? "true" : "false";
      return;
    case Type::UINT8: return whole<arrow::UInt8Array>(array, at, out);
    case Type::INT8: return whole<arrow::Int8Array>(array, at, out);
    case Type::UINT16: return whole<arrow::UInt16Array>(array, at, out);
    case Type::INT16: return whole<arrow::Int16Array>(array, at, out);
    case Type::UINT32: return whole<arrow::UInt32Array>(array, at, out);
    case Type::INT32: return whole<arrow::Int32Array>(array, at, out);
    case Type::UINT64: return whole<arrow::UInt64Array>(array, at, out);
    case Type::INT64: return whole<arrow::Int64Array>(array, at, out);
    case Type::DURATION: return whole<arrow::DurationArray>(array, at, out);
    case Type::HALF_FLOAT:
      return real(arrow::util::Float16::FromBits(static_cast<const arrow::HalfFloatArray&>(array).Value(at))
                      .ToFloat(),
                  out);
    case Type::FLOAT: return real(static_cast<const arrow::FloatArray&>(array).Value(at), out);
    case Type::DOUBLE: return real(static_cast<const arrow::DoubleArray&>(array).Value(at), out);
    case Type::DECIMAL32: out += static_cast<const arrow::Decimal32Array&>(array).FormatValue(at); return;
    case Type::DECIMAL64: out += static_cast<const arrow::Decimal64Array&>(array).FormatValue(at); return;
    case Type::DECIMAL128: out += static_cast<const arrow::Decimal128Array&>(array).FormatValue(at); return;
    case Type::DECIMAL256: out += static_cast<const arrow::Decimal256Array&>(array).FormatValue(at); return;
    case Type::STRING: return append_json_text(view<arrow::StringArray>(array, at), out);
    case Type::LARGE_STRING: return append_json_text(view<arrow::LargeStringArray>(array, at), out);
    case Type::STRING_VIEW: return append_json_text(view<arrow::StringViewArray>(array, at), out);
    case Type::BINARY: return bytes_of(view<arrow::BinaryArray>(array, at), out);
    case Type::LARGE_BINARY: return bytes_of(view<arrow::LargeBinaryArray>(array, at), out);
    case Type::BINARY_VIEW: return bytes_of(view<arrow::BinaryViewArray>(array, at), out);
    case Type::FIXED_SIZE_BINARY: return bytes_of(view<arrow::FixedSizeBinaryArray>(array, at), out);
    case Type::DATE32: return of_days(static_cast<const arrow::Date32Array&>(array).Value(at), out);
    case Type::DATE64:
      return of_days(
          floor_divide(static_cast<const arrow::Date64Array&>(array).Value(at), kSecondsOfADay * 1000), out);
    case Type::TIMESTAMP:
      return timestamp(static_cast<const arrow::TimestampArray&>(array).Value(at),
                       static_cast<const arrow::TimestampType&>(*array.type()), out);
    case Type::TIME32:
      return time_of_day(static_cast<const arrow::Time32Array&>(array).Value(at),
                         static_cast<const arrow::Time32Type&>(*array.type()).unit(), out);
    case Type::TIME64:
      return time_of_day(static_cast<const arrow::Time64Array&>(array).Value(at),
                         static_cast<const arrow::Time64Type&>(*array.type()).unit(), out);
    case Type::LIST: return list<arrow::ListArray>(array, at, out);
    case Type::LARGE_LIST: return list<arrow::LargeListArray>(array, at, out);
    case Type::FIXED_SIZE_LIST: return list<arrow::FixedSizeListArray>(array, at, out);
    case Type::LIST_VIEW: return list<arrow::ListViewArray>(array, at, out);
    case Type::LARGE_LIST_VIEW: return list<arrow::LargeListViewArray>(array, at, out);
    case Type::STRUCT: return members(static_cast<const arrow::StructArray&>(array), at, out);
    case Type::MAP: return map(static_cast<const arrow::MapArray&>(array), at, out);
    case Type::DICTIONARY: {
      const auto& coded = static_cast<const arrow::DictionaryArray&>(array);
      return append_json(*coded.dictionary(), coded.GetValueIndex(at), out);
    }
    case Type::EXTENSION:
      return append_json(*static_cast<const arrow::ExtensionArray&>(array).storage(), at, out);
    default: throw std::invalid_argument("is of type " + array.type()->ToString());
  }
}

std::string refused_type(const arrow::DataType& type) {
  switch (type.id()) {
    case Type::SPARSE_UNION:
    case Type::DENSE_UNION:
    case Type::RUN_END_ENCODED:
    case Type::INTERVAL_MONTHS:
    case Type::INTERVAL_DAY_TIME:
    case Type::INTERVAL_MONTH_DAY_NANO: return type.name();
    case Type::DICTIONARY: return refused_type(*static_cast<const arrow::DictionaryType&>(type).value_type());
    case Type::EXTENSION: return refused_type(*static_cast<const arrow::ExtensionType&>(type).storage_type());
    default: break;
  }
  for (const auto& field : type.fields())
    if (auto found = refused_type(*field->type()); !found.empty()) return found;
  return "";
}

}  // namespace retort
