// Products whose frozen terms are 8-bit integers.
#include <algorithm>

#include "ops/gemm_parts.h"
#include "ops/int8_gemm.h"
#include "ops/scratch.h"

namespace retort {
namespace {

struct Int8Term {
  const GemmTerm* term;
  Int8Rows rows;
  std::byte* panels;  // of the columns at work
  int64_t panel_stride;
  int32_t* corrections;  // [panels][groups][kernel.width]
};

Int8Rows rows_of(const Int8Rows& rows, int64_t first, int64_t count) {
  return {count,       rows.k,
          rows.groups, rows.codes + first * rows.stride,
          rows.stride, rows.scales + first * rows.groups};
}

Int8Rows int8_rows(int64_t m, int64_t k, std::byte* memory) {
  const int64_t stride = (k + 3) / 4 * 4, groups = (k + kInt8Group - 1) / kInt8Group;
  return {m,      k,
          groups, reinterpret_cast<uint8_t*>(memory),
          stride, reinterpret_cast<float*>(memory + aligned(m * stride))};
}
int64_t int8_rows_bytes(const Int8Rows& rows) {
  return aligned(rows.m * rows.stride) + aligned(rows.m * rows.groups * 4);
}

void quantize_rows(const Int8Kernel& integers, const GemmRows& a, const float* factors, Int8Rows& rows) {
  for (int64_t i = 0; i < rows.m; ++i) integers.quantize(from_row(a, i).data, a.type, factors, rows, i);
}

// Rows [row, row + m) of the left operands as bytes, and room for the panels of `panels` times the kernel's
// width.
std::vector<Int8Term> int8_terms(const Int8Kernel& integers, const GemmKernel& kernel,
                                 std::span<const GemmTerm> terms, int64_t row, int64_t m, int64_t panels) {
  std::vector<Int8Term> found;
  int64_t rows_bytes = 0, panels_bytes = 0, corrections_bytes = 0;
  for (const auto& term : terms) {
    if (!term.int8_scales) continue;
    const auto rows = int8_rows(m, term.b.k(), nullptr);
    rows_bytes += int8_rows_bytes(rows);
    panels_bytes += panels * rows.stride * kernel.width;
    corrections_bytes += panels * rows.groups * kernel.width * 4;
  }
  auto *codes = scratch_bytes(Scratch::int8_rows, rows_bytes),
       *packed = scratch_bytes(Scratch::int8_panels, panels_bytes),
       *corrections = scratch_bytes(Scratch::corrections, corrections_bytes);
  for (const auto& term : terms) {
    if (!term.int8_scales) continue;
    auto rows = int8_rows(m, term.b.k(), codes);
    quantize_rows(integers, from_row(term.a, row), term.b.transposed ? term.int8_scales : nullptr, rows);
    found.push_back(
        {&term, rows, packed, rows.stride * kernel.width, reinterpret_cast<int32_t*>(corrections)});
    codes += int8_rows_bytes(rows), packed += panels * rows.stride * kernel.width,
        corrections += panels * rows.groups * kernel.width * 4;
  }
  return found;
}

// Columns [column, column + count) of one term as panels of bytes, decoded to bf16 on the way.
void pack_int8(const Int8Kernel& integers, const GemmKernel& kernel, const Int8Term& at, int64_t column,
               int64_t count) {
  const auto& b = at.term->b;
  const auto* scales = at.term->int8_scales;
  GemmKernel narrow = kernel;
  narrow.operand = Operand::bf16;  // what decode() writes
  const auto inverse = [&](int64_t r) { return scales[r] > 0 ? 1 / scales[r] : 0.0f; };
  if (!b.transposed) {
    auto* decoded =
        reinterpret_cast<uint16_t*>(scratch_bytes(Scratch::decoded, kernel.lanes * b.columns * 2));
    auto* codes =
        reinterpret_cast<int8_t*>(scratch_bytes(Scratch::int8_codes, kernel.lanes * at.rows.stride));
    for (int64_t c = 0; c < count; c += kernel.lanes) {
      const auto rows = std::min(kernel.lanes, count - c),
                 panel_columns = std::min(kernel.width, count - c / kernel.width * kernel.width);
      decode(narrow, b, {column + c, rows, 0, b.columns}, reinterpret_cast<std::byte*>(decoded));
      for (int64_t r = 0; r < rows; ++r) {
        integers.encode(decoded + r * b.columns, inverse(column + c + r), b.columns,
                        codes + r * at.rows.stride);
        std::fill(codes + r * at.rows.stride + b.columns, codes + (r + 1) * at.rows.stride, int8_t{0});
      }
      integers.pack_rows(codes, at.rows.stride, rows, at.rows.stride,
                         at.panels + c / kernel.width * at.panel_stride + c % kernel.width * 4,
                         cell_row_bytes(kernel, panel_columns));
    }
  } else {
    auto* decoded = reinterpret_cast<uint16_t*>(scratch_bytes(Scratch::decoded, kRowsAtOnce * count * 2));
    auto* codes = reinterpret_cast<int8_t*>(scratch_bytes(Scratch::int8_codes, kRowsAtOnce * count));
    for (int64_t k = 0; k < b.rows; k += kRowsAtOnce) {
      const auto rows = std::min(kRowsAtOnce, b.rows - k);
      decode(narrow, b, {k, rows, column, count}, reinterpret_cast<std::byte*>(decoded));
      for (int64_t r = 0; r < rows; ++r)
        integers.encode(decoded + r * count, inverse(k + r), count, codes + r * count);
      for (int64_t c = 0; c < count; c += kernel.width) {
        const auto some = std::min(kernel.width, count - c);
        integers.pack_columns(
            codes + c, count, rows, some,
            at.panels + c / kernel.width * at.panel_stride + k / 4 * cell_row_bytes(kernel, some));
      }
    }
  }
  for (int64_t c = 0; c < count; c += kernel.width)
    integers.corrections(at.panels + c / kernel.width * at.panel_stride, b.k(),
                         std::min(kernel.width, count - c),
                         at.corrections + c / kernel.width * at.rows.groups * kernel.width);
}

}  // namespace

// The integers' sum, in fp32, is what the other terms are added to.
void int8_block(const GemmKernel& kernel, std::span<const GemmTerm> terms, const Block& block,
                const GemmOutput& out) {
  const auto& integers = *int8_kernel();
  const auto [row, m, column, n] = block;
  const auto group = group_of(kernel, terms, 0, n);
  const auto exact = int8_terms(integers, kernel, terms, row, m, (group + kernel.width - 1) / kernel.width);
  std::vector<GemmTerm> others;
  int64_t cells = 0;
  for (const auto& term : terms)
    if (!term.int8_scales) others.push_back(term), cells += filled_cells(kernel, term.b.k());
  std::vector<Piece> pieces;
  for (size_t t = 0; t < others.size(); ++t) pieces.push_back({t, 0, others[t].b.k()});
  const auto operands = operands_of(kernel, others, pieces, {row, m, n, false});
  const auto panel_stride = cells * kernel.width * 4;
  auto* panels = scratch_bytes(
      Scratch::panels, std::max<int64_t>(1, panel_stride * ((group + kernel.width - 1) / kernel.width)));
  constexpr int64_t kSumRows =
      24;  // their sums stay in the first-level cache until the other terms are added
  auto* partial = reinterpret_cast<float*>(scratch_bytes(Scratch::partial, kSumRows * kernel.width * 4));
  std::vector<GemmSegment> segments;
  for (int64_t first = 0; first < n; first += group) {
    const auto count = std::min(group, n - first);
    for (const auto& term : exact) pack_int8(integers, kernel, term, column + first, count);
    int64_t cell = 0;
    for (const auto& term : others) {
      pack_piece(kernel, term.b, {0, term.b.k(), column + first, count}, {panels, panel_stride, cell});
      fill_panels(kernel, term.b.k(), count, {panels, panel_stride, cell});
      cell += filled_cells(kernel, term.b.k());
    }
    for (int64_t at = 0; at < count; at += kernel.width) {
      const auto some = std::min(kernel.width, count - at), where = column + first + at,
                 number = at / kernel.width;
      for (int64_t r = 0; r < m; r += kSumRows) {
        const auto at_once = std::min(kSumRows, m - r);
        for (const auto& term : exact)
          integers.multiply(rows_of(term.rows, r, at_once), term.panels + number * term.panel_stride,
                            term.corrections + number * term.rows.groups * kernel.width,
                            term.term->b.transposed ? nullptr : term.term->int8_scales + where, some, partial,
                            kernel.width, &term != exact.data());
        segments.clear();
        const auto* panel = panels + number * panel_stride;
        for (size_t t = 0; t < others.size(); ++t) {
          const auto steps = filled_cells(kernel, others[t].b.k());
          segments.push_back(
              {from_row(operands[t], r).data, operands[t].stride * bytes_of(operands[t].type), steps, panel});
          panel += steps * cell_row_bytes(kernel, some);
        }
        auto* c = static_cast<std::byte*>(out.data) + ((row + r) * out.stride + where) * bytes_of(out.type);
        kernel.multiply(segments.data(), static_cast<int64_t>(segments.size()), at_once,
                        {c, out.stride * bytes_of(out.type), out.type, partial, kernel.width * 4,
                         out.bias ? out.bias + where : nullptr, some});
      }
    }
  }
}

Int8Panels pack_int8_panels(const GemmKernel& kernel, const GemmMatrix& b, const float* scales) {
  const auto rows = int8_rows(0, b.k(), nullptr);
  const auto count = (b.n() + kernel.width - 1) / kernel.width;
  const GemmTerm term{{}, b, scales};
  const Int8Term at{&term, rows, scratch_bytes(Scratch::int8_panels, count * rows.stride * kernel.width),
                    rows.stride * kernel.width,
                    reinterpret_cast<int32_t*>(
                        scratch_bytes(Scratch::corrections, count * rows.groups * kernel.width * 4))};
  pack_int8(*int8_kernel(), kernel, at, 0, b.n());
  return {b.k(), b.n(), scales, at.panels, at.corrections};
}

void add_int8_product(const GemmKernel& kernel, GemmRows a, int64_t m, const Int8Panels& w, float* out,
                      int64_t stride) {
  const auto& integers = *int8_kernel();
  auto rows =
      int8_rows(m, w.k, scratch_bytes(Scratch::int8_rows, int8_rows_bytes(int8_rows(m, w.k, nullptr))));
  quantize_rows(integers, a, w.scales, rows);
  const auto* panel = w.panels;
  const auto* corrections = w.corrections;
  for (int64_t first = 0; first < w.n;
       first += kernel.width, panel += rows.stride * kernel.width, corrections += rows.groups * kernel.width)
    integers.multiply(rows, panel, corrections, nullptr, std::min(kernel.width, w.n - first), out + first,
                      stride, true);
}

}  // namespace retort
