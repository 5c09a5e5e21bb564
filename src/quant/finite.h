// Whether stored weights are finite, at the speed of reading them: of dense types the exponents are looked
// at, of block types the scales, which alone can make a value infinite or no number.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "quant/types.h"

namespace retort {

// The first element that is not finite (of a block type: the first of its block), counted from the beginning
// of `stored`, which holds whole blocks. nullopt when all are finite, and for types of ours whose rows have a
// header: they are made from numbers that were looked at.
std::optional<int64_t> first_not_finite(WeightType type, std::span<const std::byte> stored);

}  // namespace retort
