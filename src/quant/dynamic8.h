// The dynamic 8-bit code of arXiv:2110.02861 (8-bit Optimizers via Block-wise Quantization): 256 values in
// [-1, 1] or [0, 1] with a tapered exponent, times the absolute maximum of a block. The values are
// bitsandbytes' up to the last bits: its map comes from torch.linspace, whose rounding depends on the
// machine's vector width; this one is the same everywhere.
#pragma once
#include <cstdint>
#include <span>

namespace retort {

enum class Dynamic8 : uint8_t { with_sign, without_sign };  // first moments; second moments (never negative)

inline constexpr int64_t kDynamic8Block = 256;  // elements that share one absmax
inline int64_t dynamic8_blocks(int64_t count) { return (count + kDynamic8Block - 1) / kDynamic8Block; }

// The 256 values in rising order.
std::span<const float, 256> dynamic8_values(Dynamic8 map);

// The code whose value is nearest to `normalized`; halfway goes to the lower code; a NaN gives code 0.
uint8_t dynamic8_code(Dynamic8 map, float normalized);

// count floats -> count codes and dynamic8_blocks(count) maxima. The last block may be short. A block of
// zeros has absmax 0.
void dynamic8_quantize(Dynamic8 map, const float* in, int64_t count, uint8_t* codes, float* absmax);
void dynamic8_dequantize(Dynamic8 map, const uint8_t* codes, const float* absmax, int64_t count, float* out);

}  // namespace retort
