#include "quant/packed4.h"

#include <algorithm>
#include <vector>

#include "base/half.h"
#include "quant/paths.h"

namespace retort {
namespace {

const QuantPath* fastest_path() {
  static const QuantPath* const path =
      paths_on_this_machine().empty() ? nullptr : paths_on_this_machine().front();
  return path;
}

int code_at(const uint8_t* codes, int64_t i, bool high_first) {
  return codes[i / 2] >> ((i % 2 == 0) == high_first ? 4 : 0) & 15;
}

template <class Out> Out to(float value);
template <> float to<float>(float value) { return value; }
template <> uint16_t to<uint16_t>(float value) { return float_to_bf16(value); }

template <class Out>
void look_up(const uint8_t* codes, const float* values, bool high_first, Out* out, int64_t count) {
  Out table[16];
  for (int i = 0; i < 16; ++i) table[i] = to<Out>(values[i]);
  const int first = high_first ? 4 : 0, second = 4 - first;
  for (int64_t i = 0; i < count; i += 2) {
    const uint8_t pair = codes[i / 2];
    out[i] = table[pair >> first & 15];
    out[i + 1] = table[pair >> second & 15];
  }
}

// What the codes of a group stand for.
void values_of(const CodeGroups& groups, int64_t group, float* values) {
  const float scale = groups.scales[group],
              zero = groups.zeros ? static_cast<float>(groups.zeros[group]) : 0.0f;
  for (int i = 0; i < 16; ++i) values[i] = (groups.book[i] - zero) * scale;
}

template <class Out>
using Lookup = void (*)(const uint8_t* codes, const float* values, bool high_first, Out* out, int64_t count);

// A row whose columns are in no order of groups: the values of all groups once, then one look-up a column.
template <class Out> void decode_scattered(const uint8_t* codes, const CodeGroups& groups, int64_t row,
                                           int64_t first, int64_t count, std::vector<Out>& tables, Out* out) {
  tables.resize(static_cast<size_t>(groups.groups) * 16);
  float values[16];
  for (int64_t g = 0; g < groups.groups; ++g) {
    values_of(groups, row * groups.groups + g, values);
    for (int64_t i = 0; i < 16; ++i) tables[static_cast<size_t>(g * 16 + i)] = to<Out>(values[i]);
  }
  for (int64_t i = 0; i < count; ++i)
    out[i] = tables[static_cast<size_t>(groups.group_of[first + i] * 16 +
                                        code_at(codes, first + i, groups.high_first))];
}

template <class Out> void decode(const std::byte* matrix, int64_t columns, const CodeGroups& groups,
                                 int64_t row, int64_t rows, int64_t first, int64_t count, Out* out,
                                 Lookup<Out> lookup) {
  std::vector<Out> tables;
  float values[16];
  for (const auto end = row + rows; row < end; ++row, out += count) {
    const auto* codes = reinterpret_cast<const uint8_t*>(matrix) + row * (columns / 2);
    if (groups.group_of) {
      decode_scattered(codes, groups, row, first, count, tables, out);
      continue;
    }
    // Of groups that run on, those of earlier rows are in front.
    const auto before = groups.groups > 0 ? 0 : row * columns;
    for (int64_t i = 0; i < count;) {
      const auto group = (before + first + i) / groups.group_columns;
      const auto some = std::min(count - i, (group + 1) * groups.group_columns - before - first - i);
      values_of(groups, row * groups.groups + group, values);
      lookup(codes + (first + i) / 2, values, groups.high_first, out + i, some);
      i += some;
    }
  }
}

}  // namespace

void packed4_lookup(const uint8_t* codes, const float* values, bool high_first, float* out, int64_t count) {
  look_up(codes, values, high_first, out, count);
}

void packed4_lookup_bf16(const uint8_t* codes, const float* values, bool high_first, uint16_t* out,
                         int64_t count) {
  look_up(codes, values, high_first, out, count);
}

void decode_packed4(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                    int64_t rows, int64_t first, int64_t count, float* out) {
  const auto* path = fastest_path();
  decode(matrix, columns, groups, row, rows, first, count, out,
         path ? path->packed4_to_float : packed4_lookup);
}

void decode_packed4_bf16(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                         int64_t rows, int64_t first, int64_t count, uint16_t* out) {
  const auto* path = fastest_path();
  decode(matrix, columns, groups, row, rows, first, count, out,
         path ? path->packed4_to_bf16 : packed4_lookup_bf16);
}

void decode_nested_scales(const uint8_t* codes, int64_t count, const float* map, const float* maxima,
                          int64_t block, float offset, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = map[codes[i]] * maxima[i / block] + offset;
}

void decode_codes4(const std::byte* in, float* out, int64_t pairs) {
  look_up(reinterpret_cast<const uint8_t*>(in), kWholeCodes.data(), false, out, 2 * pairs);
}

}  // namespace retort
