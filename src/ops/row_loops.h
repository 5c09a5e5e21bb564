// Loops over the rows of activations: everything between matrix products. Operands are fp32 or bf16 bit
// patterns, arithmetic and sums are fp32. One source (row_loops_body.h) is compiled for three instruction
// sets; the table that this machine can run is chosen once by CPUID. Results of different instruction sets
// agree to rounding, not to the bit.
#pragma once
#include <cstdint>

namespace retort {

enum class Activation { silu, gelu_tanh };

// Scores of some keys (rows) by query heads (columns, whole vectors of 16), [keys, stride] fp32. Column c is
// of query i = (first_column + c) / group, which sees key j when diagonal + i - window < j <= diagonal + i;
// window 0 has no lower limit.
struct ScoreBlock {
  float* scores;
  int64_t stride, keys, columns;
  int64_t group, first_column, diagonal, window;
  float scale, cap;  // z = scale * s, then cap * tanh(z / cap) when cap > 0
};

template <class Element>  // float, or uint16_t holding bf16
struct RowLoops {
  // y = x * r * (offset + w), r = (mean(x^2) + epsilon)^-1/2, stored in `inverse_rms`. With `delta`, sum = x
  // + delta takes x's place.
  void (*rms_norm)(const Element* x, const Element* delta, Element* sum, const float* w, float offset,
                   float epsilon, Element* y, float* inverse_rms, int64_t width);
  // dx = r * (g - x * r^2 * mean(g * x)), g = dy * (offset + w), plus `more` when that is not null. dw += dy
  // * x * r when `dw` is not null.
  void (*rms_norm_backward)(const Element* dy, const Element* x, const Element* more, const float* w,
                            float offset, float inverse_rms, Element* dx, float* dw, int64_t width);
  // Half-split rotation of one head: (x1, x2) -> (x1 c - x2 s, x2 c + x1 s), pairs (i, i + half). sign = -1
  // is the inverse.
  void (*rotate)(const Element* x, const float* cosine, const float* sine, float sign, Element* y,
                 int64_t half);
  // y = activation(gate) * up
  void (*gated)(Activation activation, const Element* gate, const Element* up, Element* y, int64_t count);
  void (*gated_backward)(Activation activation, const Element* dy, const Element* gate, const Element* up,
                         Element* dgate, Element* dup, int64_t count);
  // In place: z = cap * tanh(z / cap).
  void (*soft_cap)(Element* z, float cap, int64_t count);
  float (*log_sum_exp)(const Element* z, int64_t count);
  // In place: z -> weight * exp(z - log_sum), times 1 - (z / cap)^2 when cap > 0 (z is the capped logit).
  void (*softmax_gradient)(Element* z, float log_sum, float weight, float cap, int64_t count);
  // p = exp(z - top), times 1 - (z / cap)^2 when cap > 0 (z is the capped logit). Returns the sum of exp(z -
  // top).
  float (*exponentials)(const float* z, float top, float cap, Element* p, int64_t count);
  // One chunk of a running softmax over keys: raises `top`, the columns' largest z so far in powers of two
  // (kNoScore at first), writes p [keys, stride of p] = 2^(z - top), zero where it is not seen, `factors` =
  // 2^(old top - top) and sums = factors * sums + sum p.
  void (*softmax)(const ScoreBlock& block, Element* p, int64_t p_stride, float* top, float* sums,
                  float* factors);
  // Probabilities p from the saved log_sums, and ds, the gradient of the raw scores: dp [keys, block.stride]
  // is that of the probabilities, shared = sum_j p_j dp_j of a column over all keys.
  void (*softmax_backward)(const ScoreBlock& block, const float* dp, const float* log_sums,
                           const float* shared, Element* p, Element* ds, int64_t out_stride);
  // y = x * by, element by element.
  void (*times)(const float* x, const float* by, Element* y, int64_t count);
  // out[r] = x_r . y_r
  void (*dots)(const Element* x, const Element* y, int64_t rows, int64_t width, float* out);
  // Conversions between Element and float; `to_float` may scale.
  void (*to_float)(const Element* x, float scale, float* y, int64_t count);
  void (*from_float)(const float* x, Element* y, int64_t count);
};

constexpr float kNoScore = -3.0e38f;

// Of attention, all in fp32.
struct ScoreLoops {
  // In place: raw scores s -> probabilities over columns [first, last) of scale * s (soft-capped when cap >
  // 0), zero elsewhere. Returns the log of the sum of exponentials.
  float (*probabilities)(float* s, int64_t columns, int64_t first, int64_t last, float scale, float cap);
  // What the softmax of the last chunk left: top -> log of the sum of exponentials, sums -> 1 / sums.
  void (*finish)(float* top, float* sums, int64_t columns);
  float (*largest)(const float* z, int64_t count);
  // y += a * x
  void (*add_scaled)(float* y, const float* x, float a, int64_t count);
  // y = scale * codes, of 8 bits.
  void (*codes_to_float)(const int8_t* codes, float scale, float* y, int64_t count);
};

struct AllRowLoops {
  RowLoops<float> f32;
  RowLoops<uint16_t> bf16;
  ScoreLoops scores;
};

// The fastest table that this machine can run.
const AllRowLoops& row_loops();
// All that it can run, by name: tests compare them.
struct NamedRowLoops {
  const char* name;
  const AllRowLoops* loops;  // null where the CPU lacks the instructions
};
NamedRowLoops row_loops_portable();
NamedRowLoops row_loops_avx2();
NamedRowLoops row_loops_avx512();

template <class Element> const RowLoops<Element>& loops_of();
template <> inline const RowLoops<float>& loops_of<float>() { return row_loops().f32; }
template <> inline const RowLoops<uint16_t>& loops_of<uint16_t>() { return row_loops().bf16; }

}  // namespace retort
