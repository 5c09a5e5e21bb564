#include "ops/gemm.h"

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "ops/few_rows.h"
#include "ops/gemm_parts.h"
#include "ops/int8_gemm.h"
#include "ops/narrow_gradient.h"
#include "ops/row_loops.h"
#include "ops/scratch.h"
#include "ops/team.h"

namespace retort {
namespace {

constexpr int64_t kSummedAtOnce = 512,
                  kLeftAtOnce = 192;  // of gradients of matrices: rows of activations, rows of the result
constexpr int64_t kPartialBytes = 2 << 20;

// Columns of a block of m rows by n columns whose sums are made together: of several passes as many as leave
// those in the cache.
int64_t summed_at_once(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, int64_t n,
                       bool several) {
  if (!several) return n;
  const auto unit = unit_of(kernel, terms, n);
  return std::min(n, std::max(group_of(kernel, terms, m, n), kPartialBytes / (m * 4) / unit * unit));
}

// One block of the result, one thread.
void plain_block(const GemmKernel& kernel, std::span<const GemmTerm> terms, const Block& block,
                 const GemmOutput& out) {
  const auto [row, m, column, n] = block;
  const auto passes = passes_of(terms);
  const bool several = passes.size() > 1;
  const auto group = group_of(kernel, terms, m, n);
  int64_t cells = 0;
  for (const auto& pass : passes) {
    int64_t of_pass = 0;
    for (const auto& piece : pass) of_pass += filled_cells(kernel, piece.count);
    cells = std::max(cells, of_pass);
  }
  const auto panel_stride = cells * kernel.width * 4,
             panels_of_group = (group + kernel.width - 1) / kernel.width;
  auto* panels = scratch_bytes(Scratch::panels, panel_stride * panels_of_group);
  const auto rows_at_once = kernel.tile_cells > 1 ? rows_near(cells * 4) : m;
  const auto summed = summed_at_once(kernel, terms, m, n, several);
  auto* partial =
      several ? reinterpret_cast<float*>(scratch_bytes(Scratch::partial, m * summed * 4)) : nullptr;
  auto* c = static_cast<std::byte*>(out.data) + row * out.stride * bytes_of(out.type);
  std::vector<GemmSegment> segments;
  for (int64_t start = 0; start < n; start += summed) {
    const auto end = std::min(n, start + summed);
    for (size_t p = 0; p < passes.size(); ++p) {
      const auto operands = operands_of(kernel, terms, passes[p], {row, m, end - start, several});
      for (int64_t first = start; first < end; first += group) {
        const auto count = std::min(group, end - first);
        int64_t cell = 0;
        for (const auto& piece : passes[p]) {
          pack_piece(kernel, terms[piece.term].b, {piece.first, piece.count, column + first, count},
                     {panels, panel_stride, cell});
          fill_panels(kernel, piece.count, count, {panels, panel_stride, cell});
          cell += filled_cells(kernel, piece.count);
        }
        for (int64_t r = 0; r < m; r += rows_at_once)
          for (int64_t at = 0; at < count; at += kernel.width) {
            const auto some = std::min(kernel.width, count - at), width = cell_row_bytes(kernel, some);
            const auto* panel = panels + at / kernel.width * panel_stride;
            segments.clear();
            for (size_t i = 0; i < operands.size(); ++i) {
              const auto steps = filled_cells(kernel, passes[p][i].count);
              segments.push_back({from_row(operands[i], r).data,
                                  operands[i].stride * bytes_of(operands[i].type), steps, panel});
              panel += steps * width;
            }
            const bool last = p + 1 == passes.size();
            const auto where = column + first + at;
            auto* sums = partial + r * summed + (first - start) + at;
            GemmStore store{c + (r * out.stride + where) * bytes_of(out.type),
                            out.stride * bytes_of(out.type),
                            out.type,
                            nullptr,
                            0,
                            nullptr,
                            some};
            if (out.add && p == 0)
              store.add = static_cast<const float*>(store.c), store.add_row_bytes = store.c_row_bytes;
            if (p > 0) store.add = sums, store.add_row_bytes = summed * 4;
            if (!last) store.c = sums, store.c_row_bytes = summed * 4, store.c_type = Operand::f32;
            if (last && out.bias) store.bias = out.bias + where;
            kernel.multiply(segments.data(), static_cast<int64_t>(segments.size()),
                            std::min(rows_at_once, m - r), store);
          }
      }
    }
  }
}

// Of a product by several threads, rows go to them where there are many, else columns.
bool shares_rows(int64_t m, int64_t threads) { return m >= 256 * threads; }

// Calls part(first, count) for about `pieces` runs of whole units.
template <class Part> void share_out(int64_t pieces, int64_t total, int64_t unit, Part&& part) {
  const auto each = (total + pieces * unit - 1) / (pieces * unit) * unit;
  on_team((total + each - 1) / each, [&](int64_t i) { part(i * each, std::min(each, total - i * each)); });
}

constexpr int64_t kFewRows = 12;               // up to here, reading the blocks beats packing them
constexpr int64_t kWeightsApiece = 64 * 1024;  // a few microseconds of work: less is not worth sharing

const FewRowsKernel* few_rows_reader() {
  static const FewRowsKernel* const reader = few_rows_avx512();
  return reader;
}

// The product of generation, where the first term's matrix can be read as it is stored; false where it
// cannot. Its other terms, an adapter's, are added in fp32.
bool few_rows(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, int64_t n,
              const GemmOutput& out) {
  const auto& b = terms[0].b;
  if (b.transposed || m > few_rows_limit(b.type)) return false;
  const auto* const reader = few_rows_reader();
  const auto blocks = (b.columns / 32 + 15) / 16 * 16;  // whole vectors of scales
  auto* memory = scratch_bytes(Scratch::sliced, m * blocks * (96 + 8));
  const auto part = [&](int64_t offset) { return memory + m * blocks * offset; };
  SlicedRows rows{m,
                  blocks,
                  reinterpret_cast<int8_t*>(part(0)),
                  reinterpret_cast<int8_t*>(part(32)),
                  reinterpret_cast<int8_t*>(part(64)),
                  reinterpret_cast<float*>(part(96)),
                  reinterpret_cast<float*>(part(100))};
  if (terms[0].a.type == Operand::bf16) rows.lowest = nullptr;
  std::vector<float> wide(static_cast<size_t>(b.columns));
  for (int64_t r = 0; r < m; ++r) {
    const auto a = from_row(terms[0].a, r);
    convert(a.data, a.type, wide.data(), Operand::f32, b.columns);
    reader->slice(wide.data(), b.columns, rows, r);
  }
  const bool direct = terms.size() == 1 && out.type == Operand::f32 && !out.add && !out.bias;
  auto* sums = direct ? static_cast<float*>(out.data)
                      : reinterpret_cast<float*>(scratch_bytes(Scratch::partial, m * n * 4));
  const auto stride = direct ? out.stride : n;
  const auto pieces = std::clamp<int64_t>(n * b.columns / kWeightsApiece, 1, 4 * team_size());
  share_out(pieces, n, 16, [&](int64_t first, int64_t count) {
    reader->multiply(b.type, b.data + first * b.row_bytes, b.row_bytes, count, b.columns, rows, sums + first,
                     stride);
  });
  if (direct) return true;
  if (terms.size() > 1) {
    std::vector<float> others(static_cast<size_t>(m * n));
    plain_block(kernel, terms.subspan(1), {0, m, 0, n}, {others.data(), n, Operand::f32});
    row_loops().scores.add_scaled(sums, others.data(), 1, m * n);
  }
  for (int64_t r = 0; r < m; ++r) {
    auto* row = sums + r * n;
    if (out.bias) row_loops().scores.add_scaled(row, out.bias, 1, n);
    const GemmRows to{out.data, out.stride, out.type};
    auto* target = const_cast<void*>(from_row(to, r).data);
    if (out.add) row_loops().scores.add_scaled(static_cast<float*>(target), row, 1, n);
    else convert(row, Operand::f32, target, out.type, n);
  }
  return true;
}

constexpr int64_t kNarrow = 48;  // columns of a left operand: its pairs of rows lie in one panel

// gemm_transposed() of few columns of the left operand, without panels of the right one; false where there is
// no kernel for it.
bool narrow_product(const GemmKernel& kernel, const GemmRows& a, int64_t na, const GemmRows& b, int64_t nb,
                    int64_t k, const GemmOutput& out) {
  static const NarrowKernel narrow = narrow_kernel_avx512_bf16();
  // Tiles of AMX sum in another order.
  if (!narrow || std::string_view(kernel.name) != gemm_kernel_avx512_bf16()->name ||
      a.type != Operand::bf16 || b.type != Operand::bf16 || na > std::min(kNarrow, kernel.width))
    return false;
  const auto width = cell_row_bytes(kernel, na);
  auto* cells = scratch_bytes(Scratch::transposed, cells_of(kernel, std::min(k, kSummedAtOnce)) * width);
  for (int64_t first = 0; first < k; first += kSummedAtOnce) {
    const auto rows = std::min(kSummedAtOnce, k - first);
    const auto left = from_row(a, first), right = from_row(b, first);
    kernel.pack_columns(left.data, left.stride * bytes_of(left.type), rows, na, cells);
    const NarrowProduct product{cells,
                                width,
                                na,
                                static_cast<const uint16_t*>(right.data),
                                right.stride,
                                rows,
                                static_cast<float*>(out.data),
                                out.stride,
                                out.add || first > 0};
    share_out(team_size(), nb, kNarrowStep,
              [&](int64_t column, int64_t count) { narrow(product, column, count); });
  }
  return true;
}

}  // namespace

GemmMatrix gemm_matrix(const float* data, int64_t rows, int64_t columns, bool transposed, float scale) {
  return {WeightType::f32,
          reinterpret_cast<const std::byte*>(data),
          rows,
          columns,
          columns * 4,
          transposed,
          scale};
}
GemmMatrix gemm_matrix_bf16(const uint16_t* data, int64_t rows, int64_t columns, bool transposed) {
  return {
      WeightType::bf16, reinterpret_cast<const std::byte*>(data), rows, columns, columns * 2, transposed, 1};
}

int64_t copied_bytes(const GemmKernel& kernel, int64_t m, int64_t k, int64_t n, int64_t threads) {
  const auto type = kernel.operand == Operand::f32 ? WeightType::f32 : WeightType::bf16;
  const GemmTerm term{{nullptr, k, kernel.operand},
                      {type, nullptr, n, k, k * bytes_of(kernel.operand), false, 1}};
  const std::span terms(&term, 1);
  const auto of_thread = [&](int64_t count) { return (count + threads - 1) / threads; };
  const auto rows = shares_rows(m, threads) ? of_thread(m) : m,
             columns = shares_rows(m, threads) ? n : of_thread(n);
  const auto passes = passes_of(terms);
  const bool several = passes.size() > 1;
  const auto summed = summed_at_once(kernel, terms, std::max<int64_t>(1, rows), columns, several);
  int64_t most = 0;
  for (const auto& pass : passes)
    most = std::max(most, copy_bytes(kernel, terms, pass, {0, rows, summed, several}));
  return threads * most;
}

int64_t few_rows_limit(WeightType type) {
  const auto* const reader = few_rows_reader();
  return reader && reader->supports(type) ? kFewRows : 0;
}

void gemm(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, const GemmOutput& out) {
  const auto n = terms[0].b.n();
  for (const auto& term : terms)
    if (term.b.n() != n) throw std::logic_error("gemm: terms of different widths");
  if (out.add && out.type != Operand::f32) throw std::logic_error("gemm: sums are kept in fp32");
  if (m == 0 || n == 0) return;
  if (few_rows(kernel, terms, m, n, out)) return;
  const auto threads = team_size();
  const bool integers =
      std::any_of(terms.begin(), terms.end(), [](const GemmTerm& term) { return term.int8_scales; });
  if (integers && (!int8_kernel() || kernel.lanes != 16 || out.add))
    throw std::logic_error("gemm: integers need AVX-512 VNNI, and are not added to what is there");
  const auto block = [&](const Block& part) {
    integers ? int8_block(kernel, terms, part, out) : plain_block(kernel, terms, part, out);
  };
  if (threads <= 1) block({0, m, 0, n});
  else if (shares_rows(m, threads))
    share_out(threads, m, 48, [&](int64_t row, int64_t rows) { block({row, rows, 0, n}); });
  else
    share_out(threads, n, unit_of(kernel, terms, n), [&](int64_t column, int64_t columns) {
      block({0, m, column, columns});
    });
}

void gemm_transposed(const GemmKernel& kernel, GemmRows a, int64_t na, GemmRows b, int64_t nb, int64_t k,
                     const GemmOutput& out) {
  if (out.type != Operand::f32) throw std::logic_error("gemm_transposed: sums are kept in fp32");
  const auto bytes = bytes_of(kernel.operand);
  if (a.type != kernel.operand) {
    auto* wide = scratch_bytes(Scratch::widened, k * na * bytes);
    for (int64_t r = 0; r < k; ++r)
      convert(from_row(a, r).data, a.type, wide + r * na * bytes, kernel.operand, na);
    a = {wide, na, kernel.operand};
  }
  if (k == 0 && !out.add)
    for (int64_t r = 0; r < na; ++r) std::fill_n(static_cast<float*>(out.data) + r * out.stride, nb, 0.0f);
  if (narrow_product(kernel, a, na, b, nb, k, out)) return;
  // Some of K at a time, so that panels of many columns and a block of the transposed left operand are in the
  // second-level cache together.
  for (int64_t first = 0; first < k; first += kSummedAtOnce) {
    const auto rows = std::min(kSummedAtOnce, k - first),
               stride = kernel.tile_cells > 1 ? odd_lines(rows) : cells_of(kernel, rows) * kernel.pair;
    const GemmMatrix right{b.type == Operand::f32 ? WeightType::f32 : WeightType::bf16,
                           static_cast<const std::byte*>(from_row(b, first).data),
                           rows,
                           nb,
                           b.stride * bytes_of(b.type),
                           true,
                           1};
    const auto columns = std::max<int64_t>(1, kGroupBytes / (stride * bytes) / kernel.width) * kernel.width;
    for (int64_t column = 0; column < nb; column += columns) {
      const auto count = std::min(columns, nb - column);
      auto* panels = scratch_bytes(Scratch::panels, panel_bytes(kernel, rows, count));
      pack_panels(kernel, right, column, count, panels);
      on_team((na + kLeftAtOnce - 1) / kLeftAtOnce, [&](int64_t block) {
        const auto begin = block * kLeftAtOnce, some = std::min(kLeftAtOnce, na - begin);
        auto* left =
            scratch_bytes(Scratch::transposed, kLeftAtOnce * std::max(kSummedAtOnce, stride) * bytes);
        kernel.transpose(static_cast<const std::byte*>(from_row(a, first).data) + begin * bytes,
                         a.stride * bytes, rows, some, left, stride * bytes);
        auto part = out;
        part.data = static_cast<float*>(out.data) + begin * out.stride + column;
        part.add = out.add || first > 0;
        multiply_panels(kernel, {left, stride, kernel.operand}, some, rows, panels, count, part);
      });
    }
  }
}

void multiply_panels(const GemmKernel& kernel, GemmRows a, int64_t m, int64_t k, const std::byte* panels,
                     int64_t count, const GemmOutput& out) {
  const auto stride = panel_bytes(kernel, k, kernel.width);
  for (int64_t first = 0; first < count; first += kernel.width, panels += stride) {
    const GemmSegment segment{a.data, a.stride * bytes_of(a.type), cells_of(kernel, k), panels};
    GemmStore store{static_cast<std::byte*>(out.data) + first * bytes_of(out.type),
                    out.stride * bytes_of(out.type),
                    out.type,
                    nullptr,
                    0,
                    nullptr,
                    std::min(kernel.width, count - first)};
    if (out.add) store.add = static_cast<const float*>(store.c), store.add_row_bytes = store.c_row_bytes;
    if (out.bias) store.bias = out.bias + first;
    kernel.multiply(&segment, 1, m, store);
  }
}

}  // namespace retort
