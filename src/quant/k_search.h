// The scale searches of ggml-quants.c, without an importance matrix. Sums run in element order in float32: the bytes of
// a file depend on it.
#pragma once
#include <cstdint>

namespace retort {

struct ScaleAndMinimum {
  float scale = 0;
  float minimum = 0;   // x is about scale * code - minimum, minimum >= 0
};

struct SearchGrid {   // trial inverse scales: (levels - 1 + first + step * t) / (max - min), t = 0..last
  float first, step;
  int last;
};

enum class SearchError { squared, absolute };

// Codes 0..top of x ~ scale * code - minimum, by weighted least squares over a grid of trial scales (make_qkx2).
ScaleAndMinimum search_scale_and_minimum(const float* x, const float* weights, int count, int top, SearchGrid grid, SearchError error, uint8_t* codes);

// Codes 0..2*half-1 of x ~ scale * (code - half), weights x^2, 19 trial scales (make_qx). The scale may be negative.
float search_signed_scale(const float* x, int count, int half, int8_t* codes);

// The same form refined by coordinate descent, at most five rounds (make_q3).
float search_signed_scale_by_descent(const float* x, int count, int half, int8_t* codes);

}  // namespace retort
