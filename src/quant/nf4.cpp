#include "quant/nf4.h"

#include "quant/dynamic8.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

namespace retort {
namespace {

float largest_magnitude(const float* x) {
  float largest = 0.0f;
  for (int i = 0; i < kNf4Elements; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

// As bitsandbytes, codes are chosen with the exact absmax also where the stored one is rounded.
void encode_codes(const float* x, float absmax, uint8_t* codes) {
  const float inverse = absmax > 0.0f ? 1.0f / absmax : 0.0f;
  for (int i = 0; i < kNf4Elements; i += 2)
    codes[i / 2] = static_cast<uint8_t>(nf4_code(x[i] * inverse) | nf4_code(x[i + 1] * inverse) << 4);
}

}  // namespace

int nf4_code(float normalized) {
  int code = 0;
  for (int i = 0; i < 15; ++i) code += normalized > (nf4_value(i) + nf4_value(i + 1)) * 0.5f ? 1 : 0;
  return code;
}

void nf4_encode(const float* x, Nf4Block& block) {
  const float absmax = largest_magnitude(x);
  store_float(block.absmax, absmax);
  encode_codes(x, absmax, block.codes);
}

void nf4_encode_apart(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks) {
  for (int64_t b = 0; b < blocks; ++b, in += kNf4Elements, codes += stride) {
    maxima[b] = largest_magnitude(in);
    encode_codes(in, maxima[b], codes);
  }
}

void nf4_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns, Nf4Encode encode) {
  const int64_t blocks = columns / kNf4Elements;
  std::vector<float> maxima(static_cast<size_t>(blocks));
  auto* block = reinterpret_cast<Nf4Block*>(out);
  for (int64_t r = 0; r < rows; ++r, in += columns) {
    encode(in, reinterpret_cast<uint8_t*>(block) + 4, sizeof(Nf4Block), maxima.data(), blocks);
    for (const float absmax : maxima) store_float((block++)->absmax, absmax);
  }
}

void nf4_decode(const std::byte* in, float* out, int64_t blocks) {
  decode_blocks<Nf4Block, kNf4Elements, nf4_dequantize>(in, out, blocks);
}

void nf4_dq_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns, Nf4Encode encode) {
  const int64_t blocks = columns / kNf4Elements;
  std::vector<float> maxima(static_cast<size_t>(blocks));
  auto* row = reinterpret_cast<uint8_t*>(out);
  for (int64_t r = 0; r < rows; ++r, in += columns, row += kNf4DqHeader + kNf4DqBlock * blocks) {
    encode(in, row + kNf4DqHeader + blocks, 32, maxima.data(), blocks);
    double sum = 0;
    for (const float absmax : maxima) sum += absmax;
    const auto mean = static_cast<float>(sum / static_cast<double>(std::max<int64_t>(1, blocks)));
    float scale = 0.0f;
    for (auto& absmax : maxima) {
      absmax -= mean;
      scale = std::max(scale, std::fabs(absmax));
    }
    store_float(row, mean);
    store_float(row + 4, scale);
    for (int64_t b = 0; b < blocks; ++b)
      row[kNf4DqHeader + b] =
          dynamic8_code(Dynamic8::with_sign, scale > 0.0f ? maxima[static_cast<size_t>(b)] / scale : 0.0f);
  }
}

void nf4_dq_maxima(const std::byte* row, float* maxima, int64_t blocks) {
  const float* dynamic = dynamic8_values(Dynamic8::with_sign).data();
  for (int64_t b = 0; b < blocks; ++b)
    maxima[b] = nf4_dq_absmax(reinterpret_cast<const uint8_t*>(row), b, dynamic);
}

void nf4_dq_decode_row(const std::byte* in, float* out, int64_t blocks) {
  const auto* row = reinterpret_cast<const uint8_t*>(in);
  const float* dynamic = dynamic8_values(Dynamic8::with_sign).data();
  for (int64_t b = 0; b < blocks; ++b, out += kNf4Elements) {
    const float absmax = nf4_dq_absmax(row, b, dynamic);
    const uint8_t* codes = nf4_dq_codes(row, blocks, b);
    for (int i = 0; i < kNf4Elements; ++i) out[i] = nf4_value(nf4_code_at(codes, i)) * absmax;
  }
}

}  // namespace retort
