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

template <class Out> Out to(float value);
template <> float to<float>(float value) { return value; }
template <> uint16_t to<uint16_t>(float value) { return float_to_bf16(value); }

template <class Out> void decode_groups(const CodeRun& run, int64_t groups, int64_t columns, Out* out) {
  const int first = run.high_first ? 4 : 0, second = 4 - first;
  const uint8_t* codes = run.codes;
  for (int64_t g = 0; g < groups; ++g) {
    const float scale = run.scales[g], zero = run.zeros ? static_cast<float>(run.zeros[g]) : 0.0f;
    Out values[16];
    for (int i = 0; i < 16; ++i) values[i] = to<Out>((run.book[i] - zero) * scale);
    for (int64_t i = 0; i < columns; i += 2, ++codes) {
      *out++ = values[*codes >> first & 15];
      *out++ = values[*codes >> second & 15];
    }
  }
}

template <class Out> void decode_scattered(const ScatteredRun& run, int64_t count, Out* out) {
  const int first = run.high_first ? 4 : 0, second = 4 - first;
  for (int64_t i = 0; i < count; ++i) {
    const auto group = run.group_of[i];
    const float value = run.book[run.codes[i / 2] >> (i % 2 == 0 ? first : second) & 15];
    out[i] = to<Out>((value - run.zeros[group]) * run.scales[group]);
  }
}

template <class Out> using Groups = void (*)(const CodeRun& run, int64_t groups, int64_t columns, Out* out);
template <class Out> using Scattered = void (*)(const ScatteredRun& run, int64_t count, Out* out);

template <class Out> void decode(const std::byte* matrix, int64_t columns, const CodeGroups& groups,
                                 int64_t row, int64_t rows, int64_t first, int64_t count, Out* out,
                                 Groups<Out> in_order, Scattered<Out> in_any_order) {
  const auto size = groups.group_columns;
  std::vector<float> zeros(groups.group_of ? static_cast<size_t>(groups.groups) : 0);
  for (const auto end = row + rows; row < end; ++row, out += count) {
    const auto* codes = reinterpret_cast<const uint8_t*>(matrix) + row * (columns / 2) + first / 2;
    const auto first_group = row * groups.groups;
    if (groups.group_of) {
      if (groups.zeros) std::copy_n(groups.zeros + first_group, groups.groups, zeros.begin());
      in_any_order({codes, groups.scales + first_group, zeros.data(), groups.group_of + first, groups.book,
                    groups.high_first},
                   count, out);
      continue;
    }
    // Of groups that run on, those of earlier rows are in front.
    auto at = (groups.groups > 0 ? 0 : row * columns) + first;
    for (int64_t done = 0; done < count;) {
      const auto group = at / size, inside = at % size, left = count - done;
      const auto whole = inside == 0 ? left / size : 0;
      const auto some = whole > 0 ? whole * size : std::min(size - inside, left);
      const auto number = first_group + group;
      in_order({codes + done / 2, groups.scales + number, groups.zeros ? groups.zeros + number : nullptr,
                groups.book, groups.high_first},
               std::max<int64_t>(1, whole), whole > 0 ? size : some, out + done);
      done += some, at += some;
    }
  }
}

}  // namespace

void decode_code_groups(const CodeRun& run, int64_t groups, int64_t columns, float* out) {
  decode_groups(run, groups, columns, out);
}
void decode_code_groups_bf16(const CodeRun& run, int64_t groups, int64_t columns, uint16_t* out) {
  decode_groups(run, groups, columns, out);
}
void decode_scattered_codes(const ScatteredRun& run, int64_t count, float* out) {
  decode_scattered(run, count, out);
}
void decode_scattered_codes_bf16(const ScatteredRun& run, int64_t count, uint16_t* out) {
  decode_scattered(run, count, out);
}

void decode_packed4(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                    int64_t rows, int64_t first, int64_t count, float* out) {
  const auto* path = fastest_path();
  decode(matrix, columns, groups, row, rows, first, count, out,
         path ? path->code_groups_to_float : decode_code_groups,
         path ? path->scattered_codes_to_float : decode_scattered_codes);
}

void decode_packed4_bf16(const std::byte* matrix, int64_t columns, const CodeGroups& groups, int64_t row,
                         int64_t rows, int64_t first, int64_t count, uint16_t* out) {
  const auto* path = fastest_path();
  decode(matrix, columns, groups, row, rows, first, count, out,
         path ? path->code_groups_to_bf16 : decode_code_groups_bf16,
         path ? path->scattered_codes_to_bf16 : decode_scattered_codes_bf16);
}

void decode_nested_scales(const uint8_t* codes, int64_t count, const float* map, const float* maxima,
                          int64_t block, float offset, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = map[codes[i]] * maxima[i / block] + offset;
}

void decode_codes4(const std::byte* in, float* out, int64_t pairs) {
  constexpr float kOne = 1;
  decode_groups<float>({reinterpret_cast<const uint8_t*>(in), &kOne, nullptr, kWholeCodes.data(), false}, 1,
                       2 * pairs, out);
}

}  // namespace retort
