#include "quant/code_books.h"

#include "quant/k_search.h"

#include <algorithm>

namespace retort {
namespace {

constexpr float kIq2Levels[4] = {8, 25, 43, 0};  // index 3 does not occur
constexpr float kIq3XxsLevels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kIq3SLevels[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr float kIq1Shift = 0.125f;  // added to or taken from every level of a group

// Seven stored sign bits; the eighth makes their number even.
int even_signs(uint32_t seven) { return static_cast<int>(seven) | (__builtin_popcount(seven) & 1) << 7; }

// Eight elements of a 2-bit book entry, one sign bit each.
void put8(float* out, float scale, uint16_t entry, int signs) {
  for (int j = 0; j < 8; ++j) {
    const float magnitude = scale * kIq2Levels[entry >> (2 * j) & 3];
    out[j] = signs >> j & 1 ? -magnitude : magnitude;
  }
}
// Four elements of a 3-bit book entry.
void put4(float* out, float scale, const float* levels, uint16_t entry, int signs) {
  for (int j = 0; j < 4; ++j) {
    const float magnitude = scale * levels[entry >> (3 * j) & 7];
    out[j] = signs >> j & 1 ? -magnitude : magnitude;
  }
}
void put_ternary(float* out, float scale, uint16_t entry, float shift) {
  for (int j = 0; j < 8; ++j) out[j] = scale * (static_cast<float>((entry >> (2 * j) & 3) - 1) + shift);
}

template <class Block, class Decode>
void for_blocks(const std::byte* in, float* out, int64_t blocks, Decode decode) {
  const auto* block = reinterpret_cast<const Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block, out += 256) decode(*block, out);
}

// Scales of IQ2: (1/2 + nibble) / 4.
float iq2_scale(float scale, int nibble) { return scale * (0.5f + static_cast<float>(nibble)) * 0.25f; }

}  // namespace

void decode_iq2_xxs(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq2XxsBlock>(in, out, blocks, [](const Iq2XxsBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int sub = 0; sub < 8; ++sub) {  // 4 bytes of indices, then 4 * 7 sign bits and a 4-bit scale
      const uint8_t* codes = block.codes + 8 * sub;
      const uint32_t rest = load_u32(codes + 4);
      const float scale = iq2_scale(d, static_cast<int>(rest >> 28));
      for (int l = 0; l < 4; ++l)
        put8(y + 32 * sub + 8 * l, scale, kIq2XxsBook[codes[l]], even_signs(rest >> (7 * l) & 127));
    }
  });
}

void decode_iq2_xs(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq2XsBlock>(in, out, blocks, [](const Iq2XsBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int group = 0; group < 32; ++group) {  // 9 bits of index, 7 of sign; a scale for two groups
      const int code = load_u16(block.codes + 2 * group);
      const float scale = iq2_scale(d, block.scales[group / 4] >> (group % 4 / 2 * 4) & 15);
      put8(y + 8 * group, scale, kIq2XsBook[code & 511], even_signs(static_cast<uint32_t>(code >> 9)));
    }
  });
}

void decode_iq2_s(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq2SBlock>(in, out, blocks, [](const Iq2SBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int group = 0; group < 32; ++group) {  // 8 + 2 bits of index, 8 of sign
      const int index = block.index[group] | (block.high[group / 4] >> (group % 4 * 2) & 3) << 8;
      const float scale = iq2_scale(d, block.scales[group / 4] >> (group % 4 / 2 * 4) & 15);
      put8(y + 8 * group, scale, kIq2SBook[index], block.signs[group]);
    }
  });
}

void decode_iq3_xxs(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq3XxsBlock>(in, out, blocks, [](const Iq3XxsBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int group = 0; group < 32; ++group) {
      const uint32_t rest = load_u32(block.scales_and_signs + group / 4 * 4);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
      const int signs = even_signs(rest >> (group % 4 * 7) & 127);
      put4(y + 8 * group, scale, kIq3XxsLevels, kIq3XxsBook[block.index[2 * group]], signs);
      put4(y + 8 * group + 4, scale, kIq3XxsLevels, kIq3XxsBook[block.index[2 * group + 1]], signs >> 4);
    }
  });
}

void decode_iq3_s(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq3SBlock>(in, out, blocks, [](const Iq3SBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int four = 0; four < 64; ++four) {
      const int index = block.index[four] | (block.high[four / 8] >> (four % 8) & 1) << 8;
      const float scale =
          d * static_cast<float>(1 + 2 * (block.scales[four / 16] >> (four / 8 % 2 * 4) & 15));
      put4(y + 4 * four, scale, kIq3SLevels, kIq3SBook[index], block.signs[four / 2] >> (four % 2 * 4));
    }
  });
}

void decode_iq1_s(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq1SBlock>(in, out, blocks, [](const Iq1SBlock& block, float* y) {
    const float d = load_half(block.scale);
    for (int group = 0; group < 32; ++group) {  // high: 4 * 3 bits of index, 3 of scale, 1 of shift
      const int high = load_u16(block.high + group / 4 * 2);
      const int index = block.index[group] | (high >> (group % 4 * 3) & 7) << 8;
      const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
      put_ternary(y + 8 * group, scale, kIq1Book[index], high & 0x8000 ? -kIq1Shift : kIq1Shift);
    }
  });
}

void decode_iq1_m(const std::byte* in, float* out, int64_t blocks) {
  for_blocks<Iq1MBlock>(in, out, blocks, [](const Iq1MBlock& block, float* y) {
    int scale_bits = 0;
    for (int k = 0; k < 4; ++k) scale_bits |= (load_u16(block.scales + 2 * k) >> 12) << (4 * k);
    const float d = half_to_float(static_cast<uint16_t>(scale_bits));
    for (int group = 0; group < 32;
         ++group) {  // a nibble of `high`: 3 bits of index, 1 of shift; a 3-bit scale for two groups
      const int high = block.high[group / 2] >> (group % 2 * 4) & 15;
      const int index = block.index[group] | (high & 7) << 8;
      const int sub_scale = load_u16(block.scales + group / 8 * 2) >> (group % 8 / 2 * 3) & 7;
      put_ternary(y + 8 * group, d * static_cast<float>(2 * sub_scale + 1), kIq1Book[index],
                  high & 8 ? -kIq1Shift : kIq1Shift);
    }
  });
}

namespace {

// Nearest level; halfway goes up.
int nearest_iq4(float x) {
  if (!(x > iq4_level(0))) return 0;
  int below = 0;  // the last level at or below x
  for (int step = 8; step > 0; step /= 2) below += x >= iq4_level(below + step) ? step : 0;
  if (below == 15) return 15;
  return x - iq4_level(below) < iq4_level(below + 1) - x ? below : below + 1;
}

}  // namespace

void encode_iq4_nl(const float* in, std::byte* out, int64_t blocks, const ScaleSearch& search) {
  constexpr int kAtOnce = 8;
  float scales[kAtOnce];
  auto* block = reinterpret_cast<Iq4NlBlock*>(out);
  for (int64_t first = 0; first < blocks; first += kAtOnce) {
    const int here = static_cast<int>(std::min<int64_t>(kAtOnce, blocks - first));
    search.iq4(in + 32 * first, here, scales);
    for (int b = 0; b < here; ++b, ++block) {
      const float* x = in + 32 * (first + b);
      store_half(block->scale, scales[b]);
      const float inverse = scales[b] != 0.0f ? 1 / scales[b] : 0.0f;
      for (int j = 0; j < 16; ++j)
        block->codes[j] =
            static_cast<uint8_t>(nearest_iq4(inverse * x[j]) | nearest_iq4(inverse * x[j + 16]) << 4);
    }
  }
}

}  // namespace retort
