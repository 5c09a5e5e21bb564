// The scale searches of ggml-quants.c, without an importance matrix, over many groups of values at once. Each
// group's sums run in element order in float32, because the bytes of a file depend on it; a faster version
// puts groups side by side.
#pragma once
#include <cstddef>
#include <cstdint>

namespace retort {

struct ScaleAndMinimum {
  float scale = 0;
  float minimum = 0;  // x is about scale * code - minimum, minimum >= 0
};

enum class SearchError { squared, absolute };

struct AffineSearch {
  int count, top;     // values a group (at most 32); codes 0..top
  float first, step;  // trial inverse scales: (top + first + step * t) / (max - min), t = 0..last
  int last;
  SearchError error;
};

// `groups` groups lie one after the other in x, weights and codes.
struct ScaleSearch {
  // x ~ scale * code - minimum by weighted least squares over a grid of trial scales (make_qkx2).
  void (*affine)(const float* x, const float* weights, int groups, const AffineSearch& search,
                 ScaleAndMinimum* fits, uint8_t* codes);
  // Groups of 16: x ~ scale * (code - half), weights x^2, 19 trial scales (make_qx). Scales may be negative;
  // groups below 1e-15 get scale 0 and codes 0.
  void (*with_sign)(const float* x, int groups, int half, float* scales, int8_t* codes);
  // Groups of 32: the scale of the IQ4_NL levels, weights x^2, 16 trials around the extreme element.
  void (*iq4)(const float* x, int groups, float* scales);
};

const ScaleSearch& scalar_search();

// 16 values: x ~ scale * (code - half) by coordinate descent, at most five rounds (make_q3).
float descend_to_scale(const float* x, int half, int8_t* codes);

}  // namespace retort
