#include "quant/finite.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "quant/block_bytes.h"
#include "quant/blocks32.h"
#include "quant/code_books.h"
#include "quant/k_blocks.h"
#include "quant/small_floats.h"

namespace retort {
namespace {

constexpr int64_t kAtOnce = 4096;
constexpr uint16_t kHalfInfinity = 0x7C00, kBf16Infinity = 0x7F80;
constexpr uint32_t kFloatInfinity = 0x7F800000;

// Floats without their sign order as whole numbers do: infinity and what is no number are the largest. One
// maximum over a few thousand is a loop that vectorizes; only the run that has one is gone through again.
template <class Bits> std::optional<int64_t> first_from(Bits infinity, std::span<const std::byte> stored) {
  using Signed = std::make_signed_t<Bits>;
  constexpr auto kMagnitude = static_cast<Bits>(static_cast<Bits>(~Bits{0}) >> 1);
  Bits part[kAtOnce];
  const auto count = static_cast<int64_t>(stored.size() / sizeof(Bits));
  for (int64_t first = 0; first < count; first += kAtOnce) {
    const auto some = std::min(kAtOnce, count - first);
    std::memcpy(part, stored.data() + static_cast<size_t>(first) * sizeof(Bits),
                static_cast<size_t>(some) * sizeof(Bits));
    Signed largest = 0;
    for (int64_t i = 0; i < some; ++i) largest = std::max(largest, static_cast<Signed>(part[i] & kMagnitude));
    if (largest < static_cast<Signed>(infinity)) continue;
    for (int64_t i = 0; i < some; ++i)
      if ((part[i] & kMagnitude) >= infinity) return first + i;
  }
  return std::nullopt;
}

// Of F8_E4M3 one code of each sign is no number: the largest. Without their signs eight codes at a time have
// one added; only that one carries into the sign's place.
std::optional<int64_t> first_by_code(std::span<const std::byte> stored) {
  constexpr uint64_t kEach = 0x0101010101010101;
  const auto is_none = [](std::byte code) { return (code & std::byte{0x7F}) == std::byte{0x7F}; };
  for (size_t first = 0; first < stored.size(); first += kAtOnce) {
    const auto part = stored.subspan(first, std::min<size_t>(kAtOnce, stored.size() - first));
    uint64_t carried = 0;
    size_t at = 0;
    for (; at + 8 <= part.size(); at += 8) {
      uint64_t codes;
      std::memcpy(&codes, part.data() + at, sizeof codes);
      carried |= (codes & (0x7F * kEach)) + kEach;
    }
    const bool rest = std::any_of(part.begin() + static_cast<std::ptrdiff_t>(at), part.end(), is_none);
    if ((carried & (0x80 * kEach)) == 0 && !rest) continue;
    return static_cast<int64_t>(first) + (std::find_if(part.begin(), part.end(), is_none) - part.begin());
  }
  return std::nullopt;
}

std::optional<int64_t> first_by_halves(const TypeInfo& info, std::span<const std::byte> stored,
                                       std::initializer_list<size_t> places) {
  const auto size = static_cast<size_t>(info.block_bytes);
  for (size_t at = 0; at + size <= stored.size(); at += size)
    for (const auto place : places) {
      uint16_t bits;
      std::memcpy(&bits, stored.data() + at + place, sizeof bits);
      if ((bits & 0x7FFF) >= kHalfInfinity) return static_cast<int64_t>(at / size) * info.block_elements;
    }
  return std::nullopt;
}

// Types that nobody writes any more, and those whose scales are no halves: by their values.
std::optional<int64_t> first_by_value(const TypeInfo& info, std::span<const std::byte> stored) {
  const auto blocks = static_cast<int64_t>(stored.size()) / info.block_bytes;
  const auto at_once = std::max<int64_t>(1, kAtOnce / info.block_elements);
  std::vector<float> values(static_cast<size_t>(at_once * info.block_elements));
  for (int64_t first = 0; first < blocks; first += at_once) {
    const auto some = std::min(at_once, blocks - first);
    info.dequantize(stored.data() + first * info.block_bytes, values.data(), some);
    const auto end = values.begin() + some * info.block_elements;
    const auto found = std::find_if(values.begin(), end, [](float value) { return !std::isfinite(value); });
    if (found != end) return first * info.block_elements + (found - values.begin());
  }
  return std::nullopt;
}

}  // namespace

std::optional<int64_t> first_not_finite(WeightType type, std::span<const std::byte> stored) {
  const auto& info = type_info(type);
  switch (type) {
    case WeightType::f32: return first_from<uint32_t>(kFloatInfinity, stored);
    case WeightType::f16: return first_from<uint16_t>(kHalfInfinity, stored);
    case WeightType::bf16: return first_from<uint16_t>(kBf16Infinity, stored);
    case WeightType::q4_1:
    case WeightType::q5_1: return first_by_halves(info, stored, {0, offsetof(Q4_1Block, minimum)});
    case WeightType::q4_k:
    case WeightType::q5_k: return first_by_halves(info, stored, {0, offsetof(Q4_KBlock, minimum)});
    case WeightType::q2_k:
      return first_by_halves(info, stored, {offsetof(Q2_KBlock, scale), offsetof(Q2_KBlock, minimum)});
    case WeightType::q3_k: return first_by_halves(info, stored, {offsetof(Q3_KBlock, scale)});
    case WeightType::q6_k: return first_by_halves(info, stored, {offsetof(Q6_KBlock, scale)});
    case WeightType::tq1_0: return first_by_halves(info, stored, {offsetof(Tq1_0Block, scale)});
    case WeightType::tq2_0: return first_by_halves(info, stored, {offsetof(Tq2_0Block, scale)});
    case WeightType::q4_0:
    case WeightType::q5_0:
    case WeightType::q8_0:
    case WeightType::q8_1:
    case WeightType::q1_0:
    case WeightType::q2_0:
    case WeightType::iq1_s:
    case WeightType::iq2_xxs:
    case WeightType::iq2_xs:
    case WeightType::iq2_s:
    case WeightType::iq3_xxs:
    case WeightType::iq3_s:
    case WeightType::iq4_nl:
    case WeightType::iq4_xs: return first_by_halves(info, stored, {0});
    case WeightType::f8_e4m3: return first_by_code(stored);
    case WeightType::nf4:
    case WeightType::nf4_dq:
    case WeightType::int8_row:
    case WeightType::packed4: return std::nullopt;
    default: return info.dequantize ? first_by_value(info, stored) : std::nullopt;
  }
}

}  // namespace retort
