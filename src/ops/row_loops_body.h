// The loops of row_loops.h over vectors of 16 floats (GCC splits them for narrower machines). Included once
// by each of row_loops.cpp, row_loops_avx2.cpp and row_loops_avx512.cpp; everything is in an unnamed
// namespace and nothing inline is taken from other headers, so that the linker can never pick a copy that
// this machine cannot run.
#pragma once
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "ops/row_loops.h"

namespace retort {
namespace {

using Lanes = float __attribute__((vector_size(64)));
using Bits = int32_t __attribute__((vector_size(64)));
using UnsignedBits = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));
constexpr int64_t kLanes = 16;

struct Full {};
struct Part {
  int64_t count;
};

inline Lanes widen_bf16(Halves h) { return (Lanes)(__builtin_convertvector(h, UnsignedBits) << 16); }
inline Halves narrow_bf16(Lanes v) {  // nearest even
  const auto bits = (UnsignedBits)v;
  return __builtin_convertvector((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16, Halves);
}

inline Lanes load(const float* p, Full) {
  Lanes v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
inline Lanes load(const float* p, Part part) {
  Lanes v = {};
  std::memcpy(&v, p, static_cast<size_t>(part.count) * 4);
  return v;
}
inline Lanes load(const uint16_t* p, Full) {
  Halves h;
  std::memcpy(&h, p, sizeof h);
  return widen_bf16(h);
}
inline Lanes load(const uint16_t* p, Part part) {
  Halves h = {};
  std::memcpy(&h, p, static_cast<size_t>(part.count) * 2);
  return widen_bf16(h);
}
inline void store(float* p, Lanes v, Full) { std::memcpy(p, &v, sizeof v); }
inline void store(float* p, Lanes v, Part part) { std::memcpy(p, &v, static_cast<size_t>(part.count) * 4); }
inline void store(uint16_t* p, Lanes v, Full) {
  const Halves h = narrow_bf16(v);
  std::memcpy(p, &h, sizeof h);
}
inline void store(uint16_t* p, Lanes v, Part part) {
  const Halves h = narrow_bf16(v);
  std::memcpy(p, &h, static_cast<size_t>(part.count) * 2);
}

// Lanes at or past `count` replaced by `value`: keeps a short tail out of sums and maxima.
inline Lanes keep(Lanes v, float, Full) { return v; }
inline Lanes keep(Lanes v, float value, Part part) {
  for (int64_t i = part.count; i < kLanes; ++i) v[i] = value;
  return v;
}

template <class Body> inline void each(int64_t count, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, Full{});
  if (i < count) body(i, Part{count - i});
}

inline float sum(Lanes v) {
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return v[0] + v[1];
}
inline Lanes all(float x) { return x - Lanes{}; }
inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }
inline Lanes smaller(Lanes a, Lanes b) { return a < b ? a : b; }

// exp to 2 units in the last place for x in [-87, 88]; 0 far below, and NaN stays NaN. Cephes' polynomial.
inline Lanes exponential(Lanes x) {
  const Lanes bounded = smaller(larger(x, all(-87.33f)), all(88.37f));
  const Lanes magic = all(12582912.0f);
  const Lanes n = (bounded * 1.44269504088896341f + magic) - magic;
  const Lanes r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  Lanes p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const Bits exponent = (__builtin_convertvector(n, Bits) + 127) << 23;
  const Lanes value = p * (Lanes)exponent;
  return x == x ? (x < -87.33f ? Lanes{} : value) : x;
}
inline Lanes logistic(Lanes x) { return 1.0f / (1.0f + exponential(-x)); }
inline Lanes hyperbolic_tangent(Lanes x) {  // odd polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel
  const Lanes square = x * x;
  const Lanes near =
      x * (1.0f + square * (-0.333333333f +
                            square * (0.133333333f + square * (-0.0539682540f + square * 0.0218694885f))));
  const Lanes far = 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f);
  return square < 0.04f ? near : far;
}

template <class Element> void rms_norm(const Element* x, const Element* delta, Element* added, const float* w,
                                       float offset, float epsilon, Element* y, float* inverse_rms,
                                       int64_t width) {
  Lanes squares = {};
  if (delta) {
    each(width,
         [&](int64_t i, auto part) { store(added + i, load(x + i, part) + load(delta + i, part), part); });
    x = added;
  }
  each(width, [&](int64_t i, auto part) {
    const Lanes v = load(x + i, part);
    squares += v * v;
  });
  const float r = 1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(width) + epsilon);
  each(width, [&](int64_t i, auto part) {
    store(y + i, load(x + i, part) * r * (load(w + i, part) + offset), part);
  });
  *inverse_rms = r;
}

template <class Element> void rms_norm_backward(const Element* dy, const Element* x, const Element* more,
                                                const float* w, float offset, float r, Element* dx, float* dw,
                                                int64_t width) {
  Lanes products = {};
  each(width, [&](int64_t i, auto part) {
    products += load(dy + i, part) * (load(w + i, part) + offset) * load(x + i, part);
  });
  const float shared = r * r * sum(products) / static_cast<float>(width);
  each(width, [&](int64_t i, auto part) {
    const Lanes g = load(dy + i, part), v = load(x + i, part);
    if (dw) store(dw + i, load(dw + i, part) + g * v * r, part);
    const Lanes own = r * (g * (load(w + i, part) + offset) - v * shared);
    store(dx + i, more ? own + load(more + i, part) : own, part);
  });
}

template <class Element>
void rotate(const Element* x, const float* cosine, const float* sine, float sign, Element* y, int64_t half) {
  each(half, [&](int64_t i, auto part) {
    const Lanes a = load(x + i, part), b = load(x + half + i, part), c = load(cosine + i, part),
                s = load(sine + i, part) * sign;
    store(y + i, a * c - b * s, part);
    store(y + half + i, b * c + a * s, part);
  });
}

// Both activations are x * logistic(f(x)): silu has f = x; gelu_tanh has f = 2 sqrt(2/pi) (x + 0.044715 x^3).
constexpr float kGelu = 1.5957691216057308f, kGeluCubic = 0.044715f;
inline Lanes gate_argument(Activation activation, Lanes x) {
  return activation == Activation::silu ? x : kGelu * (x + kGeluCubic * x * x * x);
}
inline Lanes gate_slope(Activation activation, Lanes x) {
  return activation == Activation::silu ? all(1.0f) : kGelu * (1.0f + 3.0f * kGeluCubic * x * x);
}

template <class Element>
void gated(Activation activation, const Element* gate, const Element* up, Element* y, int64_t count) {
  each(count, [&](int64_t i, auto part) {
    const Lanes g = load(gate + i, part);
    store(y + i, g * logistic(gate_argument(activation, g)) * load(up + i, part), part);
  });
}

template <class Element> void gated_backward(Activation activation, const Element* dy, const Element* gate,
                                             const Element* up, Element* dgate, Element* dup, int64_t count) {
  each(count, [&](int64_t i, auto part) {
    const Lanes d = load(dy + i, part), g = load(gate + i, part), u = load(up + i, part);
    const Lanes s = logistic(gate_argument(activation, g));
    store(dup + i, d * g * s, part);
    store(dgate + i, d * u * (s + g * s * (1.0f - s) * gate_slope(activation, g)), part);
  });
}

template <class Element> void soft_cap(Element* z, float cap, int64_t count) {
  each(count, [&](int64_t i, auto part) {
    store(z + i, cap * hyperbolic_tangent(load(z + i, part) * (1.0f / cap)), part);
  });
}

constexpr float kLowest = -3.0e38f;

template <class Element> float largest(const Element* z, int64_t count) {
  Lanes high = all(kLowest);
  each(count, [&](int64_t i, auto part) { high = larger(keep(load(z + i, part), kLowest, part), high); });
  float top = kLowest;
  for (int i = 0; i < kLanes; ++i) top = high[i] > top ? high[i] : top;
  return top;
}

template <class Element> float log_sum_exp(const Element* z, int64_t count) {
  const float top = largest(z, count);
  Lanes total = {};
  each(count, [&](int64_t i, auto part) { total += keep(exponential(load(z + i, part) - top), 0.0f, part); });
  return top + __builtin_logf(sum(total));
}

template <class Element>
void softmax_gradient(Element* z, float log_sum, float weight, float cap, int64_t count) {
  const float inverse = cap > 0 ? 1.0f / cap : 0.0f;
  each(count, [&](int64_t i, auto part) {
    const Lanes v = load(z + i, part), bent = v * inverse;
    store(z + i, weight * exponential(v - log_sum) * (1.0f - bent * bent), part);
  });
}

template <class Element> float exponentials(const float* z, float top, float cap, Element* p, int64_t count) {
  const float inverse = cap > 0 ? 1.0f / cap : 0.0f;
  Lanes total = {};
  each(count, [&](int64_t i, auto part) {
    const Lanes v = load(z + i, part), bent = v * inverse, e = keep(exponential(v - top), 0.0f, part);
    total += e;
    store(p + i, e * (1.0f - bent * bent), part);
  });
  return sum(total);
}

template <class Element> void to_float(const Element* x, float scale, float* y, int64_t count) {
  each(count, [&](int64_t i, auto part) { store(y + i, load(x + i, part) * scale, part); });
}
template <class Element> void from_float(const float* x, Element* y, int64_t count) {
  each(count, [&](int64_t i, auto part) { store(y + i, load(x + i, part), part); });
}

inline Lanes capped(Lanes s, float scale, float cap) {
  return cap > 0 ? cap * hyperbolic_tangent(s * (scale / cap)) : s * scale;
}

float probabilities(float* s, int64_t columns, int64_t first, int64_t last, float scale, float cap) {
  float* row = s + first;
  const int64_t count = last - first;
  Lanes high = all(kLowest);
  each(count, [&](int64_t i, auto part) {
    const Lanes v = capped(load(row + i, part), scale, cap);
    store(row + i, v, part);
    high = larger(keep(v, kLowest, part), high);
  });
  float top = kLowest;
  for (int i = 0; i < kLanes; ++i) top = high[i] > top ? high[i] : top;
  Lanes total = {};
  each(count, [&](int64_t i, auto part) {
    const Lanes e = keep(exponential(load(row + i, part) - top), 0.0f, part);
    store(row + i, e, part);
    total += e;
  });
  const float all_of_it = sum(total), inverse = 1.0f / all_of_it;
  each(count, [&](int64_t i, auto part) { store(row + i, load(row + i, part) * inverse, part); });
  std::memset(s, 0, static_cast<size_t>(first) * 4);
  std::memset(s + last, 0, static_cast<size_t>(columns - last) * 4);
  return top + __builtin_logf(all_of_it);
}

void add_scaled(float* y, const float* x, float a, int64_t count) {
  each(count, [&](int64_t i, auto part) { store(y + i, load(y + i, part) + a * load(x + i, part), part); });
}
template <class Element>
void dots(const Element* x, const Element* y, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += width, y += width) {
    Lanes total = {};
    each(width, [&](int64_t i, auto part) { total += load(x + i, part) * load(y + i, part); });
    out[r] = sum(total);
  }
}
template <class Element> void times(const float* x, const float* by, Element* y, int64_t count) {
  each(count, [&](int64_t i, auto part) { store(y + i, load(x + i, part) * load(by + i, part), part); });
}

void codes_to_float(const int8_t* codes, float scale, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = scale * static_cast<float>(codes[i]);
}

}  // namespace
}  // namespace retort

#include "ops/score_loops_body.h"

namespace retort {
namespace {

template <class Element> constexpr RowLoops<Element> table_of() {
  return {rms_norm<Element>,    rms_norm_backward<Element>, rotate<Element>,
          gated<Element>,       gated_backward<Element>,    soft_cap<Element>,
          log_sum_exp<Element>, softmax_gradient<Element>,  exponentials<Element>,
          softmax<Element>,     softmax_backward<Element>,  times<Element>,
          dots<Element>,        to_float<Element>,          from_float<Element>};
}
constexpr AllRowLoops kLoops = {table_of<float>(),
                                table_of<uint16_t>(),
                                {probabilities, finish_softmax, largest<float>, add_scaled, codes_to_float}};

}  // namespace
}  // namespace retort
