// GGUF's value types (gguf.md: gguf_metadata_value_type) and its alignment rule, shared by reader and writer.
#pragma once
#include <bit>
#include <cstdint>
#include <string>

namespace retort {

constexpr uint32_t kGgufArray = 9;
constexpr uint32_t kGgufAlignment = 32;

constexpr bool valid_gguf_alignment(uint64_t alignment) {
  return std::has_single_bit(alignment) && alignment >= 8 && alignment <= 65536;
}

// Calls `use` with a value of the C++ type behind a scalar type id; false when the id is not a scalar's.
template <class Use> bool with_gguf_type(uint32_t id, Use&& use) {
  switch (id) {
    case 0: use(uint8_t{}); return true;
    case 1: use(int8_t{}); return true;
    case 2: use(uint16_t{}); return true;
    case 3: use(int16_t{}); return true;
    case 4: use(uint32_t{}); return true;
    case 5: use(int32_t{}); return true;
    case 6: use(float{}); return true;
    case 7: use(bool{}); return true;
    case 8: use(std::string{}); return true;
    case 10: use(uint64_t{}); return true;
    case 11: use(int64_t{}); return true;
    case 12: use(double{}); return true;
    default: return false;
  }
}

// The inverse: the id of a scalar's C++ type.
template <class Scalar> uint32_t gguf_type_id() {
  for (uint32_t id = 0; id <= 12; ++id) {
    bool same = false;
    with_gguf_type(id, [&](auto sample) { same = std::is_same_v<decltype(sample), Scalar>; });
    if (same) return id;
  }
  return kGgufArray;
}

}  // namespace retort
