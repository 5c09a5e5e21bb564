// NF4 (QLoRA, arXiv:2305.14314, appendix E): 4-bit codes for the quantiles of a normal distribution, times
// the absolute maximum of 64 weights. Two layouts of a row of n = columns / 64 blocks:
//   nf4     n blocks of 36 bytes: float absmax, 32 bytes of codes. 4.5 bits a weight.
//   nf4_dq  double quantization (section 3): float mean of the n maxima, float scale, n bytes of dynamic
//   8-bit codes,
//           then n * 32 bytes of codes. Maxima are mean + scale * dynamic8[code]. 8 + 33 n bytes: 4.24 bits
//           at 576 columns, 4.14 at 4096. bitsandbytes groups 256 maxima across rows; here a group is a row,
//           so that any row can be read alone, and groups are no larger than its for rows of up to 16,384
//           columns.
#pragma once
#include "quant/block_bytes.h"

namespace retort {

inline constexpr int kNf4Elements = 64;
inline constexpr float kNf4Values[16] = {-1.0f,
                                         -0.6961928009986877f,
                                         -0.5250730514526367f,
                                         -0.39491748809814453f,
                                         -0.28444138169288635f,
                                         -0.18477343022823334f,
                                         -0.09105003625154495f,
                                         0.0f,
                                         0.07958029955625534f,
                                         0.16093020141124725f,
                                         0.24611230194568634f,
                                         0.33791524171829224f,
                                         0.44070982933044434f,
                                         0.5626170039176941f,
                                         0.7229568362236023f,
                                         1.0f};

struct Nf4Block {
  uint8_t absmax[4];  // float
  uint8_t codes[32];  // two codes a byte, even index in the low nibble
};
static_assert(sizeof(Nf4Block) == 36);

inline constexpr int64_t kNf4DqHeader = 8;  // float mean, float scale
inline constexpr int64_t kNf4DqBlock = 33;  // one byte of absmax code, 32 bytes of codes

HOST_DEVICE inline int nf4_code_at(const uint8_t* codes, int i) { return codes[i / 2] >> (i % 2 * 4) & 15; }
HOST_DEVICE inline float nf4_value(int code) {
#if defined(__CUDA_ARCH__)  // device code cannot index a host array: the constants are copied into the kernel
  constexpr float values[16] = {kNf4Values[0],  kNf4Values[1],  kNf4Values[2],  kNf4Values[3],
                                kNf4Values[4],  kNf4Values[5],  kNf4Values[6],  kNf4Values[7],
                                kNf4Values[8],  kNf4Values[9],  kNf4Values[10], kNf4Values[11],
                                kNf4Values[12], kNf4Values[13], kNf4Values[14], kNf4Values[15]};
  return values[code];
#else
  return kNf4Values[code];
#endif
}
HOST_DEVICE inline float nf4_dequantize(const Nf4Block& block, int i) {
  return nf4_value(nf4_code_at(block.codes, i)) * load_float(block.absmax);
}

// The absmax of each of a row's blocks; kernels that fuse the decoding start here.
void nf4_dq_maxima(const std::byte* row, float* maxima, int64_t blocks);

// The parts of an nf4_dq row. `dynamic` is dynamic8_values(Dynamic8::with_sign).
HOST_DEVICE inline float nf4_dq_absmax(const uint8_t* row, int64_t block, const float* dynamic) {
  return load_float(row) + load_float(row + 4) * dynamic[row[kNf4DqHeader + block]];
}
HOST_DEVICE inline const uint8_t* nf4_dq_codes(const uint8_t* row, int64_t blocks, int64_t block) {
  return row + kNf4DqHeader + blocks + 32 * block;
}

// The code whose value is nearest to `normalized` in [-1, 1]; halfway goes to the lower code.
int nf4_code(float normalized);

void nf4_encode(const float* x, Nf4Block& block);
void nf4_decode(const std::byte* in, float* out, int64_t blocks);

// Blocks of 64 floats to maxima and codes apart: the scalar version, and what takes it or a faster one
// (paths.h).
void nf4_encode_apart(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks);
using Nf4Encode = void (*)(const float* in, uint8_t* codes, int64_t stride, float* maxima, int64_t blocks);
void nf4_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns, Nf4Encode encode);
void nf4_dq_encode_rows(const float* in, std::byte* out, int64_t rows, int64_t columns, Nf4Encode encode);
void nf4_dq_decode_row(const std::byte* row, float* out, int64_t blocks);

}  // namespace retort
