#include "quant/code_books.h"

#include "quant/k_search.h"

#include <algorithm>

namespace retort {
namespace {

// Blocks of 256 elements, eight at a time.
template <class Block, void (*kGroup)(const Block&, int, const uint16_t*, float*)>
void decode_groups(const std::byte* in, float* out, int64_t blocks, const uint16_t* book) {
  const auto* block = reinterpret_cast<const Block*>(in);
  for (int64_t b = 0; b < blocks; ++b, ++block)
    for (int g = 0; g < 32; ++g, out += 8) kGroup(*block, g, book, out);
}

}  // namespace

void decode_iq2_xxs(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq2XxsBlock, iq2_xxs_group>(in, out, blocks, kIq2XxsBook);
}
void decode_iq2_xs(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq2XsBlock, iq2_xs_group>(in, out, blocks, kIq2XsBook);
}
void decode_iq2_s(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq2SBlock, iq2_s_group>(in, out, blocks, kIq2SBook);
}
void decode_iq3_xxs(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq3XxsBlock, iq3_xxs_group>(in, out, blocks, kIq3XxsBook);
}
void decode_iq3_s(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq3SBlock, iq3_s_group>(in, out, blocks, kIq3SBook);
}
void decode_iq1_s(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq1SBlock, iq1_s_group>(in, out, blocks, kIq1Book);
}
void decode_iq1_m(const std::byte* in, float* out, int64_t blocks) {
  decode_groups<Iq1MBlock, iq1_m_group>(in, out, blocks, kIq1Book);
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
