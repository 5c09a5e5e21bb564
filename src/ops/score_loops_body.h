// Softmax of attention and its gradient over scores that lie [keys, query heads]: sums and maxima over keys
// are sums and maxima of vectors. A part of row_loops_body.h, in the same unnamed namespace.
#pragma once

namespace retort {
namespace {

constexpr float kLogTwoOfE = 1.44269504088896341f;
constexpr int kVectorsAtOnce = 3;  // columns of a strip of scores: their sums stay in registers

// 2^x to 2 units in the last place for x in [-125, 127], 2^-125 at most below, and NaN stays NaN. Cephes'
// polynomial.
inline Lanes power_of_two(Lanes x) {
  const Lanes bounded = larger(all(-125.0f), x);
  const Lanes magic = all(12582912.0f);
  const Lanes shifted = bounded + magic;  // its low bits are the exponent
  const Lanes r = bounded - (shifted - magic);
  Lanes p = r * 1.535336188319500e-4f + 1.339887440266574e-3f;
  p = p * r + 9.618437357674640e-3f;
  p = p * r + 5.550332471162809e-2f;
  p = p * r + 2.402264791363012e-1f;
  p = p * r + 6.931472028550421e-1f;
  p = p * r + 1.0f;
  return (Lanes)((Bits)p + ((Bits)shifted << 23));
}

// Natural logarithm of positive normal numbers. Cephes' polynomial.
inline Lanes logarithm(Lanes x) {
  const Bits bits = (Bits)x - 0x3F3504F3;  // from sqrt(1/2)
  const Lanes exponent = __builtin_convertvector(bits >> 23, Lanes);
  const Lanes r = (Lanes)((bits & 0x007FFFFF) + 0x3F3504F3) - 1.0f, square = r * r;
  Lanes p = r * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * r + 1.1676998740e-1f;
  p = p * r - 1.2420140846e-1f;
  p = p * r + 1.4249322787e-1f;
  p = p * r - 1.6668057665e-1f;
  p = p * r + 2.0000714765e-1f;
  p = p * r - 2.4999993993e-1f;
  p = p * r + 3.3333331174e-1f;
  p = p * r * square + exponent * -2.12194440e-4f - 0.5f * square;
  return r + p + exponent * 0.693359375f;
}

inline void store_operand(float* p, Lanes v) { store(p, v, Full{}); }
inline void store_operand(uint16_t* p, Lanes v) {
#if defined(__AVX512BF16__)
  const auto h = (Halves)_mm512_cvtneps_pbh((__m512)v);  // flushes denormals
  std::memcpy(p, &h, sizeof h);
#else
  store(p, v, Full{});
#endif
}

// Columns [first, last) of a block that see a key.
struct Columns {
  int64_t first, last;

  bool all(const ScoreBlock& block) const { return first == 0 && last == block.columns; }
  Bits keep(int64_t column) const {
    const Bits lanes =
        Bits{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + static_cast<int32_t>(column);
    return (lanes >= static_cast<int32_t>(first)) & (lanes < static_cast<int32_t>(last));
  }
};
inline int64_t within(const ScoreBlock& block, int64_t column) {
  return column < 0 ? 0 : column > block.columns ? block.columns : column;
}
inline Columns columns_of(const ScoreBlock& block, int64_t key) {
  const int64_t first = block.group * (key - block.diagonal) - block.first_column;
  return {within(block, first),
          block.window > 0 ? within(block, first + block.group * block.window) : block.columns};
}

// Calls body(key, column, keep) for the vectors of kVectors * 16 columns, keep(v, other) being v where the
// key is seen.
template <int kVectors, class Body>
inline void each_score(const ScoreBlock& block, int64_t column, Body&& body) {
  for (int64_t key = 0; key < block.keys; ++key) {
    const auto seen = columns_of(block, key);
    if (seen.all(block)) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) body(key, v, [](Lanes value, Lanes) { return value; });
    } else {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const Bits keeps = seen.keep(column + v * kLanes);
        body(key, v, [keeps](Lanes value, Lanes other) { return keeps ? value : other; });
      }
    }
  }
}

template <class Element, int kVectors> void softmax_columns(const ScoreBlock& block, int64_t column,
                                                            Element* p, int64_t p_stride, float* top,
                                                            float* sums, float* factors) {
  Lanes high[kVectors], total[kVectors];
  float* const scores = block.scores + column;
  const bool bent = block.cap > 0;
  const Lanes to_powers = all(bent ? kLogTwoOfE : block.scale * kLogTwoOfE);
  for (int v = 0; v < kVectors; ++v) high[v] = load(top + column + v * kLanes, Full{}), total[v] = Lanes{};
  each_score<kVectors>(block, column, [&](int64_t key, int v, auto keep) {
    float* at = scores + key * block.stride + v * kLanes;
    Lanes s = load(at, Full{});
    if (bent) store(at, s = capped(s, block.scale, block.cap), Full{});
    high[v] = larger(keep(s * to_powers, high[v]), high[v]);
  });
  for (int v = 0; v < kVectors; ++v) {
    const int64_t c = column + v * kLanes;
    store(factors + c, power_of_two(load(top + c, Full{}) - high[v]), Full{});
    store(top + c, high[v], Full{});
  }
  each_score<kVectors>(block, column, [&](int64_t key, int v, auto keep) {
    const Lanes e = keep(
        power_of_two(load(scores + key * block.stride + v * kLanes, Full{}) * to_powers - high[v]), Lanes{});
    total[v] += e;
    store_operand(p + key * p_stride + column + v * kLanes, e);
  });
  for (int v = 0; v < kVectors; ++v) {
    const int64_t c = column + v * kLanes;
    store(sums + c, load(sums + c, Full{}) * load(factors + c, Full{}) + total[v], Full{});
  }
}

template <class Element, int kVectors>
void backward_columns(const ScoreBlock& block, int64_t column, const float* dp, const float* log_sums,
                      const float* shared, Element* p, Element* ds, int64_t out_stride) {
  Lanes log_sum[kVectors], mean[kVectors];
  const bool bent = block.cap > 0;
  const Lanes to_powers = all(bent ? kLogTwoOfE : block.scale * kLogTwoOfE), scale = all(block.scale);
  const float inverse = bent ? 1.0f / block.cap : 0.0f;
  for (int v = 0; v < kVectors; ++v) {
    log_sum[v] = load(log_sums + column + v * kLanes, Full{}) * kLogTwoOfE;
    mean[v] = load(shared + column + v * kLanes, Full{});
  }
  each_score<kVectors>(block, column, [&](int64_t key, int v, auto keep) {
    const int64_t at = key * block.stride + column + v * kLanes, to = key * out_stride + column + v * kLanes;
    Lanes z = load(block.scores + at, Full{}), slope = scale;
    if (bent) {
      z = capped(z, block.scale, block.cap);
      slope *= 1.0f - (z * inverse) * (z * inverse);
    }
    const Lanes e = keep(power_of_two(z * to_powers - log_sum[v]), Lanes{});
    store_operand(p + to, e);
    store_operand(ds + to, keep(e * slope * (load(dp + at, Full{}) - mean[v]), Lanes{}));
  });
}

// Calls with(column, number of vectors as a constant) for the columns of a block.
template <class With> inline void each_few_vectors(const ScoreBlock& block, With&& with) {
  int64_t column = 0;
  for (; column + kVectorsAtOnce * kLanes <= block.columns; column += kVectorsAtOnce * kLanes)
    with.template operator()<kVectorsAtOnce>(column);
  for (; column < block.columns; column += kLanes) with.template operator()<1>(column);
}

template <class Element>
void softmax(const ScoreBlock& block, Element* p, int64_t p_stride, float* top, float* sums, float* factors) {
  each_few_vectors(block, [&]<int kVectors>(int64_t column) {
    softmax_columns<Element, kVectors>(block, column, p, p_stride, top, sums, factors);
  });
}

template <class Element> void softmax_backward(const ScoreBlock& block, const float* dp,
                                               const float* log_sums, const float* shared, Element* p,
                                               Element* ds, int64_t out_stride) {
  each_few_vectors(block, [&]<int kVectors>(int64_t column) {
    backward_columns<Element, kVectors>(block, column, dp, log_sums, shared, p, ds, out_stride);
  });
}

void finish_softmax(float* top, float* sums, int64_t columns) {
  each(columns, [&](int64_t i, auto part) {
    const Lanes total = load(sums + i, part);
    store(top + i, load(top + i, part) * 0.693147180559945f + logarithm(total), part);
    store(sums + i, 1.0f / total, part);
  });
}

}  // namespace
}  // namespace retort
