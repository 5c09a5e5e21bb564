// gemm_kernel.h for vectors of kLanes 32-bit cells, over GCC's vector types. Included once by each
// gemm_*.cpp, which defines kLanes and `Arithmetic` structs; everything is in an unnamed namespace, so that
// the linker can never pick a copy that this machine cannot run.
#include <cstring>

#include "ops/gemm_kernel.h"

namespace retort {
namespace {

using Sums = float __attribute__((vector_size(kLanes * 4)));
using Cells = int32_t __attribute__((vector_size(kLanes * 4)));
using UnsignedCells = uint32_t __attribute__((vector_size(kLanes * 4)));
using HalfCells = uint16_t __attribute__((vector_size(kLanes * 2)));

__attribute__((always_inline)) inline Cells load_cells(const char* p) {
  Cells v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
__attribute__((always_inline)) inline Sums load_sums(const char* p) {
  Sums v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
__attribute__((always_inline)) inline Cells broadcast(const char* p) {
  int32_t cell;
  std::memcpy(&cell, p, 4);
  return cell - Cells{};
}

struct MultiplyF32 {
  static constexpr int64_t kPair = 1;
  __attribute__((always_inline)) static Sums add(Sums sum, Cells a, Cells b) {
    return sum + (Sums)a * (Sums)b;
  }
};

__attribute__((always_inline)) inline HalfCells to_bf16(Sums v) {  // nearest even; a NaN stays one
#if defined(__AVX512BF16__)
  return (HalfCells)_mm512_cvtneps_pbh((__m512)v);  // flushes denormals
#endif
  const auto bits = (UnsignedCells)v;
  const auto rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return __builtin_convertvector(v == v ? rounded : (bits >> 16) | 64u, HalfCells);
}

// Kept out of the tile: what they do with partial vectors would cost the tile half of its registers.
__attribute__((noinline)) void store_whole_rows(const Sums* sums, int64_t rows, int64_t vectors,
                                                const GemmStore& store, int64_t first_row) {
  char* c = static_cast<char*>(store.c) + first_row * store.c_row_bytes;
  for (int64_t r = 0; r < rows; ++r, c += store.c_row_bytes)
    for (int64_t w = 0; w < vectors; ++w) {
      const HalfCells h = to_bf16(*sums++);
      std::memcpy(c + w * kLanes * 2, &h, sizeof h);
    }
}

__attribute__((noinline)) void store_rows(const Sums* sums, int64_t rows, int64_t vectors,
                                          const GemmStore& store, int64_t first_row) {
  for (int64_t r = 0; r < rows; ++r) {
    char* c = static_cast<char*>(store.c) + (first_row + r) * store.c_row_bytes;
    const char* add = store.add
                          ? reinterpret_cast<const char*>(store.add) + (first_row + r) * store.add_row_bytes
                          : nullptr;
    for (int64_t w = 0; w < vectors; ++w, ++sums) {
      const int64_t first = w * kLanes, left = store.columns - first;
      const bool whole = left >= kLanes;
      const auto floats = static_cast<size_t>(whole ? kLanes : left) * 4;
      Sums v = *sums, other = {};
      if (add) {
        if (whole) other = load_sums(add + first * 4);
        else std::memcpy(&other, add + first * 4, floats);
        v += other;
      }
      if (store.bias) {
        std::memcpy(&other, store.bias + first, floats);
        v += other;
      }
      if (store.c_type == Operand::f32) {
        if (whole) std::memcpy(c + first * 4, &v, sizeof v);
        else std::memcpy(c + first * 4, &v, floats);
      } else {
        const HalfCells h = to_bf16(v);
        if (whole) std::memcpy(c + first * 2, &h, sizeof h);
        else std::memcpy(c + first * 2, &h, floats / 2);
      }
    }
  }
}

// How a tile goes about its work. No form changes the order of a sum.
struct TileForm {
  int rows = 0;   // of a tile of full panels; 0: kRows'
  int depth = 1;  // steps of K between two looks at whether there are more
  int ahead = 0;  // bytes of the panel that are fetched before they are read
};

// R rows by W vectors, all of K in registers.
template <class Arithmetic, int R, int W, int kDepth = 1, int kAhead = 0>
__attribute__((noinline)) void tile(const GemmSegment* segments, int64_t count, int64_t row,
                                    const GemmStore& store) {
  Sums sums[R][W] = {};
  for (const auto* segment = segments; segment != segments + count; ++segment) {
    const int64_t stride = segment->a_row_bytes;
    const char* a = static_cast<const char*>(segment->a) + row * stride;
    const char* panel = static_cast<const char*>(segment->panel);
    int64_t step = segment->steps;
    const auto multiply_cells = [&]() __attribute__((always_inline)) {
      if (W == 1 &&
          step % 16 ==
              0) {  // rows that nothing else has brought near, more of them than the hardware follows
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) __builtin_prefetch(a + r * stride + 256);
      }
      if constexpr (kAhead > 0) {
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) __builtin_prefetch(panel + kAhead + w * kLanes * 4);
      }
      Cells b[W];
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) b[w] = load_cells(panel + w * kLanes * 4);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) {
        const Cells cell = broadcast(a + r * stride);
#pragma GCC unroll 8
        for (int w = 0; w < W; ++w) sums[r][w] = Arithmetic::add(sums[r][w], cell, b[w]);
      }
      a += 4, panel += W * kLanes * 4;
    };
    if constexpr (kDepth > 1)
      for (; step >= kDepth; step -= kDepth) {
#pragma GCC unroll 8
        for (int d = 0; d < kDepth; ++d) multiply_cells();
      }
    for (; step > 0; --step) multiply_cells();
  }
  // Whole vectors: what is added goes to the registers, fp32 goes straight from them. Everything else through
  // a copy, so that the sums have no address.
  const bool whole = !store.bias && store.columns == W * kLanes;
  if (whole && store.add) {
    const char* add = reinterpret_cast<const char*>(store.add) + row * store.add_row_bytes;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w) sums[r][w] += load_sums(add + r * store.add_row_bytes + w * kLanes * 4);
  }
  if (whole && store.c_type == Operand::f32) {
    char* c = static_cast<char*>(store.c) + row * store.c_row_bytes;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int w = 0; w < W; ++w)
        std::memcpy(c + r * store.c_row_bytes + w * kLanes * 4, &sums[r][w], sizeof(Sums));
    return;
  }
  Sums copies[R][W];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int w = 0; w < W; ++w) copies[r][w] = sums[r][w];
  if (whole) store_whole_rows(&copies[0][0], R, W, store, row);
  else store_rows(&copies[0][0], R, W, store, row);
}

template <class Arithmetic, int R, int W, int kDepth = 1, int kAhead = 0>
void rows_of_panel(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
  int64_t row = 0;
  for (; row + R <= rows; row += R) tile<Arithmetic, R, W, kDepth, kAhead>(segments, count, row, store);
  if constexpr (R > 8)
    for (; row + 8 <= rows; row += 8) tile<Arithmetic, 8, W>(segments, count, row, store);
  if constexpr (R > 4)
    for (; row + 4 <= rows; row += 4) tile<Arithmetic, 4, W>(segments, count, row, store);
  if (row + 2 <= rows) tile<Arithmetic, 2, W>(segments, count, row, store), row += 2;
  for (; row < rows; ++row) tile<Arithmetic, 1, W>(segments, count, row, store);
}

// The tile of W vectors has as many rows as registers allow: kRows[W - 1], where the form names no other
// number for a full panel.
template <class Arithmetic, TileForm kForm>
void multiply(const GemmSegment* segments, int64_t count, int64_t rows, const GemmStore& store) {
  constexpr int kFull = kForm.rows > 0 ? kForm.rows : kRows[kVectors - 1];
  const auto vectors = (store.columns + kLanes - 1) / kLanes;
  if (vectors == kVectors)
    return rows_of_panel<Arithmetic, kFull, kVectors, kForm.depth, kForm.ahead>(segments, count, rows, store);
  if (vectors == 1) return rows_of_panel<Arithmetic, kRows[0], 1>(segments, count, rows, store);
  if constexpr (kVectors > 2) rows_of_panel<Arithmetic, kRows[1], 2>(segments, count, rows, store);
}

template <int kStep, int... kLane>
__attribute__((always_inline)) inline void exchange(Cells& a, Cells& b,
                                                    std::integer_sequence<int, kLane...>) {
  const Cells c = __builtin_shufflevector(a, b, ((kLane & kStep) ? kLanes + kLane - kStep : kLane)...);
  b = __builtin_shufflevector(a, b, ((kLane & kStep) ? kLanes + kLane : kLane + kStep)...);
  a = c;
}

template <int kStep> __attribute__((always_inline)) inline void transpose_square(Cells (&square)[kLanes]) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i)
    if (!(i & kStep))
      exchange<kStep>(square[i], square[i + kStep], std::make_integer_sequence<int, kLanes>{});
  if constexpr (kStep * 2 < kLanes) transpose_square<kStep * 2>(square);
}

// A whole square from rows `from_bytes` apart to rows `to_bytes` apart.
__attribute__((always_inline)) inline void move_square(const char* from, int64_t from_bytes, char* to,
                                                       int64_t to_bytes) {
  Cells square[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) square[i] = load_cells(from + i * from_bytes);
  transpose_square<1>(square);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) std::memcpy(to + i * to_bytes, &square[i], sizeof(Cells));
}

// A square of `rows` rows and `bytes` bytes of each that exist, as far as `count` rows of the result. Apart
// from the whole ones, whose registers must not have addresses.
__attribute__((noinline)) void move_part(const char* from, int64_t from_bytes, int64_t rows, int64_t bytes,
                                         char* to, int64_t to_bytes, int64_t count) {
  Cells square[kLanes] = {};
  for (int64_t r = 0; r < kLanes && r < rows; ++r)
    std::memcpy(&square[r], from + r * from_bytes,
                static_cast<size_t>(bytes < kLanes * 4 ? bytes : kLanes * 4));
  transpose_square<1>(square);
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_bytes, &square[i], sizeof(Cells));
}

// Cells [rows][cells] -> [cells][rows].
template <int64_t kPair> void pack_rows(const void* rows_in, int64_t row_bytes, int64_t rows,
                                        int64_t elements, void* vector, int64_t to_bytes) {
  const auto* from = static_cast<const char*>(rows_in);
  auto* to = static_cast<char*>(vector);
  const int64_t cells = (elements + kPair - 1) / kPair, bytes = elements * (4 / kPair);
  int64_t cell = 0;
  if (rows >= kLanes)
    for (; (cell + kLanes) * 4 <= bytes; cell += kLanes)
      move_square(from + cell * 4, row_bytes, to + cell * to_bytes, to_bytes);
  for (; cell < cells; cell += kLanes)
    move_part(from + cell * 4, row_bytes, rows, bytes - cell * 4, to + cell * to_bytes, to_bytes,
              cells - cell < kLanes ? cells - cell : kLanes);
}

// kLanes consecutive elements of one row in the low halves of the cells, `count` of which exist.
__attribute__((always_inline)) inline UnsignedCells all_halves(const char* p) {
  HalfCells v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, UnsignedCells);
}
__attribute__((noinline)) void some_elements(const char* p, int64_t bytes, char* out) {
  std::memset(out, 0, kLanes * 4);
  if (bytes > 0) std::memcpy(out, p, static_cast<size_t>(bytes < kLanes * 4 ? bytes : kLanes * 4));
}
// Cells of K from one or two rows; `two`: the second exists.
template <int64_t kPair>
__attribute__((always_inline)) inline Cells whole_cells(const char* row, int64_t row_bytes, bool two) {
  if constexpr (kPair == 1) return load_cells(row);
  else return (Cells)(two ? all_halves(row) | all_halves(row + row_bytes) << 16 : all_halves(row));
}
template <int64_t kPair> Cells some_cells(const char* row, int64_t row_bytes, bool two, int64_t count) {
  alignas(64) char elements[2][kLanes * 4];
  some_elements(row, count * (4 / kPair), elements[0]);
  some_elements(row + row_bytes, two ? count * (4 / kPair) : 0, elements[1]);
  return whole_cells<kPair>(elements[0], kLanes * 4, true);
}

template <int64_t kPair>
void pack_columns(const void* from, int64_t row_bytes, int64_t k, int64_t n, void* panel) {
  const auto* rows = static_cast<const char*>(from);
  auto* to = static_cast<char*>(panel);
  const auto put = [&](Cells cells) { std::memcpy(to, &cells, sizeof cells), to += sizeof cells; };
  constexpr int64_t kElement = 4 / kPair;
  const int64_t whole = n / kLanes * kLanes;
  for (int64_t step = 0; step < (k + kPair - 1) / kPair; ++step, rows += row_bytes * kPair) {
    const bool two = step * kPair + 1 < k;
    for (int64_t first = 0; first < whole; first += kLanes)
      put(whole_cells<kPair>(rows + first * kElement, row_bytes, two));
    if (whole < n) put(some_cells<kPair>(rows + whole * kElement, row_bytes, two, n - whole));
  }
}

// What is left of a square at the ends of K and N.
template <int64_t kPair> __attribute__((noinline)) void transpose_part(const char* from, int64_t row_bytes,
                                                                       int64_t k, int64_t n, char* to,
                                                                       int64_t to_bytes) {
  Cells square[kLanes] = {};
  for (int64_t i = 0; i < kLanes && i * kPair < k; ++i)
    square[i] = some_cells<kPair>(from + i * kPair * row_bytes, row_bytes, i * kPair + 1 < k,
                                  n < kLanes ? n : kLanes);
  transpose_square<1>(square);
  const int64_t cells = (k + kPair - 1) / kPair, bytes = (cells < kLanes ? cells : kLanes) * 4;
  for (int64_t i = 0; i < kLanes && i < n; ++i)
    std::memcpy(to + i * to_bytes, &square[i], static_cast<size_t>(bytes));
}

template <int64_t kPair>
void transpose(const void* from, int64_t row_bytes, int64_t k, int64_t n, void* out, int64_t out_row_bytes) {
  const auto* rows = static_cast<const char*>(from);
  constexpr int64_t kElement = 4 / kPair;
  // A square is kLanes columns of `from` by kLanes cells of K.
  for (int64_t first = 0; first < n; first += kLanes)
    for (int64_t begin = 0; begin < k; begin += kLanes * kPair) {
      Cells square[kLanes];
      const char* p = rows + begin * row_bytes + first * kElement;
      char* to = static_cast<char*>(out) + first * out_row_bytes + begin * kElement;
      if (first + kLanes <= n && begin + kLanes * kPair <= k) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          square[i] = whole_cells<kPair>(p + i * kPair * row_bytes, row_bytes, true);
        transpose_square<1>(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) std::memcpy(to + i * out_row_bytes, &square[i], sizeof(Cells));
      } else {
        transpose_part<kPair>(p, row_bytes, k - begin, n - first, to, out_row_bytes);
      }
    }
}

template <class Arithmetic> __attribute__((noinline)) double registers(int64_t rounds) {
  constexpr int kSums = kLanes == 16 ? 24 : 12;
  Sums sums[kSums] = {};
  Cells one = Cells{} + (Arithmetic::kPair == 2 ? 0x3F803F80 : 0x3F800000), tiny = Cells{} + 0x2F802F80;
  asm volatile("" : "+m"(one), "+m"(tiny));  // values that the compiler cannot fold
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 32
    for (int j = 0; j < kSums; ++j) sums[j] = Arithmetic::add(sums[j], one, tiny);
  }
#pragma GCC unroll 32
  for (int j = 1; j < kSums; ++j) sums[0] += sums[j];
  asm volatile("" : : "m"(sums[0]));
  return static_cast<double>(rounds) * kSums * kLanes * 2 * static_cast<double>(Arithmetic::kPair);
}

template <class Arithmetic, TileForm kForm = TileForm{}>
constexpr GemmKernel kernel_of(const char* name, Operand operand) {
  constexpr auto kPair = Arithmetic::kPair;
  return {name,
          operand,
          kPair,
          kLanes,
          kVectors * kLanes,
          multiply<Arithmetic, kForm>,
          pack_rows<kPair>,
          pack_columns<kPair>,
          transpose<kPair>,
          registers<Arithmetic>};
}

}  // namespace
}  // namespace retort
