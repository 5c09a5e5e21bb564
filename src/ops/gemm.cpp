#include "ops/gemm.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "ops/few_rows.h"
#include "ops/int8_gemm.h"
#include "ops/row_loops.h"
#include "ops/team.h"

namespace retort {
namespace {

constexpr int64_t kRowsAtOnce = 32;      // of a transposed matrix: decoded before they are packed
constexpr int64_t kDecodedAtOnce = 512;  // elements of a row, whole blocks of every type: those of a vector
                                         // of rows are a part of the first-level cache
constexpr int64_t kGroupBytes = 640 << 10;
constexpr int64_t kSummedAtOnce = 512,
                  kLeftAtOnce = 192;  // of gradients of matrices: rows of activations, rows of the result
constexpr int64_t kPassElements =
    3072;  // of K: a panel of 48 bf16 columns is 288 KiB, a part of the second-level cache
constexpr int64_t kPartialBytes = 2 << 20;
enum Slot {
  kPanels,
  kDecoded,
  kOperands,
  kPartial,
  kTransposed,
  kWidened,
  kSliced,
  kInt8Rows = 16,
  kInt8Panels,
  kInt8Codes,
  kCorrections
};

int64_t bytes_of(Operand type) { return type == Operand::f32 ? 4 : 2; }
int64_t cells_of(const GemmKernel& kernel, int64_t k) { return (k + kernel.pair - 1) / kernel.pair; }
// Bytes of one cell row of a panel of so many columns.
int64_t cell_row_bytes(const GemmKernel& kernel, int64_t columns) {
  return (columns + kernel.lanes - 1) / kernel.lanes * kernel.lanes * 4;
}

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

bool is_operand(const GemmKernel& kernel, const GemmMatrix& b) {
  return b.scale == 1 && b.type == (kernel.operand == Operand::f32 ? WeightType::f32 : WeightType::bf16);
}

void convert(const void* from, Operand type, void* to, Operand wanted, int64_t count) {
  if (type == wanted) std::memcpy(to, from, static_cast<size_t>(count * bytes_of(type)));
  else if (type == Operand::bf16)
    row_loops().bf16.to_float(static_cast<const uint16_t*>(from), 1, static_cast<float*>(to), count);
  else row_loops().bf16.from_float(static_cast<const float*>(from), static_cast<uint16_t*>(to), count);
}

// Rows [row, row + rows), columns [first, first + count) in the operand type, dense.
void decode(const GemmKernel& kernel, const GemmMatrix& b, int64_t row, int64_t rows, int64_t first,
            int64_t count, std::byte* out) {
  const auto* in = b.data + row * b.row_bytes;
  if (b.scale != 1) {  // an fp32 adapter
    std::array<float, 256> scaled;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t i = 0; i < count; i += 256) {
        const auto chunk = std::min<int64_t>(256, count - i);
        const auto* values = reinterpret_cast<const float*>(in + r * b.row_bytes) + first + i;
        for (int64_t j = 0; j < chunk; ++j) scaled[static_cast<size_t>(j)] = values[j] * b.scale;
        convert(scaled.data(), Operand::f32, out + (r * count + i) * bytes_of(kernel.operand), kernel.operand,
                chunk);
      }
    return;
  }
  if (b.grid.scales) {
    if (kernel.operand == Operand::f32)
      return decode_scaled_f8(b.data, b.row_bytes, b.grid, row, rows, first, count,
                              reinterpret_cast<float*>(out));
    return decode_scaled_f8_bf16(b.data, b.row_bytes, b.grid, row, rows, first, count,
                                 reinterpret_cast<uint16_t*>(out));
  }
  if (b.groups.scales) {
    if (kernel.operand == Operand::f32)
      return decode_packed4(b.data, b.columns, b.groups, row, rows, first, count,
                            reinterpret_cast<float*>(out));
    return decode_packed4_bf16(b.data, b.columns, b.groups, row, rows, first, count,
                               reinterpret_cast<uint16_t*>(out));
  }
  const bool dense =
      b.row_bytes == static_cast<int64_t>(row_bytes(b.type, static_cast<uint64_t>(b.columns)).value());
  const auto at_once = dense ? rows : 1;  // a slice of a wider matrix goes row by row
  for (int64_t r = 0; r < rows; r += at_once, in += b.row_bytes, out += count * bytes_of(kernel.operand)) {
    if (kernel.operand == Operand::f32)
      dequantize_columns(b.type, in, reinterpret_cast<float*>(out), at_once, b.columns, first, count);
    else
      dequantize_columns_bf16(b.type, in, reinterpret_cast<uint16_t*>(out), at_once, b.columns, first, count);
  }
}

// Parts of rows that are read next: too many streams, or too short ones, for the hardware to see.
void prefetch_rows(const std::byte* first, int64_t row_bytes, int64_t rows, int64_t bytes) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t at = 0; at < bytes + 63; at += 64)
      __builtin_prefetch(first + r * row_bytes + std::min(at, bytes - 1));
}

// Elements [k_first, k_first + k_count) of K and columns [column, column + count) of B into panels
// `panel_stride` bytes apart, from cell number `cell` of each.
void pack_piece(const GemmKernel& kernel, const GemmMatrix& b, int64_t k_first, int64_t k_count,
                int64_t column, int64_t count, std::byte* panels, int64_t panel_stride, int64_t cell) {
  const auto bytes = bytes_of(kernel.operand);
  const bool direct = is_operand(kernel, b);
  const auto& info = type_info(b.type);
  const auto each_panel = [&](auto&& visit) {
    for (int64_t c = 0; c < count; c += kernel.width, panels += panel_stride) {
      const auto some = std::min(kernel.width, count - c), width = cell_row_bytes(kernel, some);
      visit(c, some, panels + cell * width, width);
    }
  };
  if (!b.transposed) {
    const auto at_once = info.row_header_bytes > 0 ? k_count : std::min(k_count, kDecodedAtOnce);
    auto* decoded = direct ? nullptr : scratch_bytes(kDecoded, kernel.lanes * at_once * bytes);
    each_panel([&](int64_t c, int64_t some, std::byte* panel, int64_t width) {
      for (int64_t v = 0; v < some; v += kernel.lanes) {
        const auto rows = std::min(kernel.lanes, some - v);
        for (int64_t k = 0; k < k_count; k += at_once) {
          const auto elements = std::min(at_once, k_count - k);
          const auto* from =
              direct ? b.data + (column + c + v) * b.row_bytes + (k_first + k) * bytes : decoded;
          if (direct)
            prefetch_rows(from + kernel.lanes * b.row_bytes, b.row_bytes,
                          std::min(kernel.lanes, b.rows - column - c - v - kernel.lanes), elements * bytes);
          else decode(kernel, b, column + c + v, rows, k_first + k, elements, decoded);
          kernel.pack_rows(from, direct ? b.row_bytes : elements * bytes, rows, elements,
                           panel + v * 4 + k / kernel.pair * width, width);
        }
      }
    });
    return;
  }
  auto* decoded = direct ? nullptr : scratch_bytes(kDecoded, kRowsAtOnce * count * bytes);
  auto* const first_panel = panels;
  const int64_t first_byte = column / info.block_elements * info.block_bytes,
                some_bytes = count / info.block_elements * info.block_bytes;
  for (int64_t k = 0; k < k_count; k += kRowsAtOnce) {
    const auto rows = std::min(kRowsAtOnce, k_count - k);
    const auto next = k + kRowsAtOnce;
    prefetch_rows(b.data + (k_first + next) * b.row_bytes + first_byte, b.row_bytes,
                  std::min(kRowsAtOnce, k_count - next), some_bytes);
    if (!direct) decode(kernel, b, k_first + k, rows, column, count, decoded);
    const auto* from = direct ? b.data + (k_first + k) * b.row_bytes + column * bytes : decoded;
    panels = first_panel;
    each_panel([&](int64_t c, int64_t some, std::byte* panel, int64_t width) {
      kernel.pack_columns(from + c * bytes, direct ? b.row_bytes : count * bytes, rows, some,
                          panel + k / kernel.pair * width);
    });
  }
}

// One pass is some elements of K of some terms: as much as has its panels in cache together.
struct Piece {
  size_t term;
  int64_t first, count;  // of K
};

std::vector<std::vector<Piece>> passes_of(std::span<const GemmTerm> terms) {
  std::vector<std::vector<Piece>> passes(1);
  int64_t room = kPassElements;
  for (size_t t = 0; t < terms.size(); ++t)
    for (int64_t first = 0; first < terms[t].b.k(); first += kPassElements) {
      const auto count = std::min(kPassElements, terms[t].b.k() - first);
      if (count > room) passes.emplace_back(), room = kPassElements;
      passes.back().push_back({t, first, count});
      room -= count;
    }
  return passes;
}

// Columns that a transposed quantized matrix can be decoded by: whole blocks and, where that is not all of
// them, whole panels.
int64_t unit_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t n) {
  int64_t group = kernel.width;
  for (const auto& term : terms)
    if (term.b.transposed) group = std::lcm(group, type_info(term.b.type).block_elements);
  return std::min(group, n);
}

// Columns that are packed together: of a transposed matrix as many as leave their panels in the second-level
// cache, since the more of each row is read at a time, the fewer turns memory takes.
int64_t group_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t n) {
  const auto unit = unit_of(kernel, terms, n);
  int64_t k = 0;
  bool transposed = false;
  for (const auto& term : terms)
    k += std::min(term.b.k(), kPassElements), transposed = transposed || term.b.transposed;
  if (!transposed) return unit;
  const auto columns = kGroupBytes / (std::min(k, kPassElements) * bytes_of(kernel.operand));
  return std::min(n, std::max<int64_t>(1, columns / unit) * unit);
}

GemmRows from_row(const GemmRows& rows, int64_t row) {
  return {static_cast<const std::byte*>(rows.data) + row * rows.stride * bytes_of(rows.type), rows.stride,
          rows.type};
}

// The left operands of some pieces of K as the kernel reads them: in place where they are, else converted,
// padded or laid close together in this thread's scratch. `close`: each element is read once for every panel,
// and rows far apart (logits are 100 kB wide) would share a few sets of the caches.
std::vector<GemmRows> operands_of(const GemmKernel& kernel, std::span<const GemmTerm> terms,
                                  std::span<const Piece> pieces, bool close, int64_t row, int64_t m) {
  const auto bytes = bytes_of(kernel.operand);
  const auto in_place = [&](const Piece& piece) {
    const auto& a = terms[piece.term].a;
    return a.type == kernel.operand && piece.count % kernel.pair == 0 &&
           !(close && a.stride > 2 * piece.count);
  };
  const auto stride_of = [&](const Piece& piece) {
    return cells_of(kernel, piece.count) * kernel.pair + (close ? 64 / bytes : 0);
  };
  int64_t needed = 0;
  for (const auto& piece : pieces)
    if (!in_place(piece)) needed += aligned(m * stride_of(piece) * bytes);
  auto* scratch = needed == 0 ? nullptr : scratch_bytes(kOperands, needed);
  std::vector<GemmRows> operands;
  for (const auto& piece : pieces) {
    auto rows = from_row(terms[piece.term].a, row);
    rows.data = static_cast<const std::byte*>(rows.data) + piece.first * bytes_of(rows.type);
    if (!in_place(piece)) {
      const auto stride = stride_of(piece), filled = cells_of(kernel, piece.count) * kernel.pair;
      for (int64_t r = 0; r < m; ++r) {
        auto* to = scratch + r * stride * bytes;
        convert(from_row(rows, r).data, rows.type, to, kernel.operand, piece.count);
        std::fill_n(to + piece.count * bytes, (filled - piece.count) * bytes, std::byte{});
      }
      rows = {scratch, stride, kernel.operand};
      scratch += aligned(m * stride * bytes);
    }
    operands.push_back(rows);
  }
  return operands;
}

// Rows [row, row + m) by columns [column, column + n), one thread.
void plain_block(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t row, int64_t m,
                 int64_t column, int64_t n, const GemmOutput& out) {
  const auto passes = passes_of(terms);
  const bool several = passes.size() > 1;
  const auto group = group_of(kernel, terms, n);
  int64_t cells = 0;
  for (const auto& pass : passes) {
    int64_t of_pass = 0;
    for (const auto& piece : pass) of_pass += cells_of(kernel, piece.count);
    cells = std::max(cells, of_pass);
  }
  const auto panel_stride = cells * kernel.width * 4,
             panels_of_group = (group + kernel.width - 1) / kernel.width;
  auto* panels = scratch_bytes(kPanels, panel_stride * panels_of_group);
  // Of several passes, each is made over as many columns as leave their sums in the cache.
  const auto summed =
      several ? std::min(n, std::max<int64_t>(1, kPartialBytes / (m * 4 * group)) * group) : n;
  auto* partial = several ? reinterpret_cast<float*>(scratch_bytes(kPartial, m * summed * 4)) : nullptr;
  auto* c = static_cast<std::byte*>(out.data) + row * out.stride * bytes_of(out.type);
  std::vector<GemmSegment> segments;
  for (int64_t start = 0; start < n; start += summed) {
    const auto end = std::min(n, start + summed);
    for (size_t p = 0; p < passes.size(); ++p) {
      const auto operands = operands_of(kernel, terms, passes[p], several, row, m);
      for (int64_t first = start; first < end; first += group) {
        const auto count = std::min(group, end - first);
        int64_t cell = 0;
        for (const auto& piece : passes[p]) {
          pack_piece(kernel, terms[piece.term].b, piece.first, piece.count, column + first, count, panels,
                     panel_stride, cell);
          cell += cells_of(kernel, piece.count);
        }
        for (int64_t at = 0; at < count; at += kernel.width) {
          const auto some = std::min(kernel.width, count - at), width = cell_row_bytes(kernel, some);
          const auto* panel = panels + at / kernel.width * panel_stride;
          segments.clear();
          for (size_t i = 0; i < operands.size(); ++i) {
            const auto steps = cells_of(kernel, passes[p][i].count);
            segments.push_back(
                {operands[i].data, operands[i].stride * bytes_of(operands[i].type), steps, panel});
            panel += steps * width;
          }
          const bool last = p + 1 == passes.size();
          const auto where = column + first + at;
          auto* sums = partial + (first - start) + at;
          GemmStore store{c + where * bytes_of(out.type),
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
          kernel.multiply(segments.data(), static_cast<int64_t>(segments.size()), m, store);
        }
      }
    }
  }
}

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
  auto *codes = scratch_bytes(kInt8Rows, rows_bytes), *packed = scratch_bytes(kInt8Panels, panels_bytes),
       *corrections = scratch_bytes(kCorrections, corrections_bytes);
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
    auto* decoded = reinterpret_cast<uint16_t*>(scratch_bytes(kDecoded, kernel.lanes * b.columns * 2));
    auto* codes = reinterpret_cast<int8_t*>(scratch_bytes(kInt8Codes, kernel.lanes * at.rows.stride));
    for (int64_t c = 0; c < count; c += kernel.lanes) {
      const auto rows = std::min(kernel.lanes, count - c),
                 panel_columns = std::min(kernel.width, count - c / kernel.width * kernel.width);
      decode(narrow, b, column + c, rows, 0, b.columns, reinterpret_cast<std::byte*>(decoded));
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
    auto* decoded = reinterpret_cast<uint16_t*>(scratch_bytes(kDecoded, kRowsAtOnce * count * 2));
    auto* codes = reinterpret_cast<int8_t*>(scratch_bytes(kInt8Codes, kRowsAtOnce * count));
    for (int64_t k = 0; k < b.rows; k += kRowsAtOnce) {
      const auto rows = std::min(kRowsAtOnce, b.rows - k);
      decode(narrow, b, k, rows, column, count, reinterpret_cast<std::byte*>(decoded));
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

// As plain_block(), with some terms on integers: their sum, in fp32, is what the other terms are added to.
void int8_block(const Int8Kernel& integers, const GemmKernel& kernel, std::span<const GemmTerm> terms,
                int64_t row, int64_t m, int64_t column, int64_t n, const GemmOutput& out) {
  const auto group = group_of(kernel, terms, n);
  const auto exact = int8_terms(integers, kernel, terms, row, m, (group + kernel.width - 1) / kernel.width);
  std::vector<GemmTerm> others;
  int64_t cells = 0;
  for (const auto& term : terms)
    if (!term.int8_scales) others.push_back(term), cells += cells_of(kernel, term.b.k());
  std::vector<Piece> pieces;
  for (size_t t = 0; t < others.size(); ++t) pieces.push_back({t, 0, others[t].b.k()});
  const auto operands = operands_of(kernel, others, pieces, false, row, m);
  const auto panel_stride = cells * kernel.width * 4;
  auto* panels = scratch_bytes(
      kPanels, std::max<int64_t>(1, panel_stride * ((group + kernel.width - 1) / kernel.width)));
  constexpr int64_t kSumRows =
      24;  // their sums stay in the first-level cache until the other terms are added
  auto* partial = reinterpret_cast<float*>(scratch_bytes(kPartial, kSumRows * kernel.width * 4));
  std::vector<GemmSegment> segments;
  for (int64_t first = 0; first < n; first += group) {
    const auto count = std::min(group, n - first);
    for (const auto& term : exact) pack_int8(integers, kernel, term, column + first, count);
    int64_t cell = 0;
    for (const auto& term : others) {
      pack_piece(kernel, term.b, 0, term.b.k(), column + first, count, panels, panel_stride, cell);
      cell += cells_of(kernel, term.b.k());
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
          const auto steps = cells_of(kernel, others[t].b.k());
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

// Calls part(first, count) for about `pieces` runs of whole units.
template <class Part> void share_out(int64_t pieces, int64_t total, int64_t unit, Part&& part) {
  const auto each = (total + pieces * unit - 1) / (pieces * unit) * unit;
  on_team((total + each - 1) / each, [&](int64_t i) { part(i * each, std::min(each, total - i * each)); });
}

constexpr int64_t kFewRows = 12;               // up to here, reading the blocks beats packing them
constexpr int64_t kWeightsApiece = 64 * 1024;  // a few microseconds of work: less is not worth sharing

// The product of generation, where the first term's matrix can be read as it is stored; false where it
// cannot. Its other terms, an adapter's, are added in fp32.
bool few_rows(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, int64_t n,
              const GemmOutput& out) {
  static const FewRowsKernel* const reader = few_rows_avx512();
  const auto& b = terms[0].b;
  if (!reader || m > kFewRows || b.transposed || !reader->supports(b.type)) return false;
  const auto blocks = (b.columns / 32 + 15) / 16 * 16;  // whole vectors of scales
  auto* memory = scratch_bytes(kSliced, m * blocks * (96 + 8));
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
  auto* sums =
      direct ? static_cast<float*>(out.data) : reinterpret_cast<float*>(scratch_bytes(kPartial, m * n * 4));
  const auto stride = direct ? out.stride : n;
  const auto pieces = std::clamp<int64_t>(n * b.columns / kWeightsApiece, 1, 4 * team_size());
  share_out(pieces, n, 16, [&](int64_t first, int64_t count) {
    reader->multiply(b.type, b.data + first * b.row_bytes, b.row_bytes, count, b.columns, rows, sums + first,
                     stride);
  });
  if (direct) return true;
  if (terms.size() > 1) {
    std::vector<float> others(static_cast<size_t>(m * n));
    plain_block(kernel, terms.subspan(1), 0, m, 0, n, {others.data(), n, Operand::f32});
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

struct FreeAligned {
  void operator()(std::byte* p) const { std::free(p); }
};

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

std::byte* scratch_bytes(int slot, int64_t bytes) {
  struct Buffer {
    std::unique_ptr<std::byte, FreeAligned> data;
    int64_t bytes = 0;
  };
  thread_local std::array<Buffer, 27> buffers;
  auto& buffer = buffers.at(static_cast<size_t>(slot));
  if (buffer.bytes < bytes) {
    buffer.data.reset();  // before the larger one is asked for
    buffer.bytes = (bytes + 4095) / 4096 * 4096;
    buffer.data.reset(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(buffer.bytes))));
    if (!buffer.data) throw std::bad_alloc();
  }
  return buffer.data.get();
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
  const auto block = [&](auto&&... arguments) {
    return integers ? int8_block(*int8_kernel(), arguments...) : plain_block(arguments...);
  };
  if (threads <= 1) block(kernel, terms, 0, m, 0, n, out);
  else if (m >= 256 * threads)
    share_out(threads, m, 48, [&](int64_t row, int64_t rows) { block(kernel, terms, row, rows, 0, n, out); });
  else
    share_out(threads, n, unit_of(kernel, terms, n),
              [&](int64_t column, int64_t columns) { block(kernel, terms, 0, m, column, columns, out); });
}

void gemm_transposed(const GemmKernel& kernel, GemmRows a, int64_t na, GemmRows b, int64_t nb, int64_t k,
                     const GemmOutput& out) {
  if (out.type != Operand::f32) throw std::logic_error("gemm_transposed: sums are kept in fp32");
  const auto bytes = bytes_of(kernel.operand);
  if (a.type != kernel.operand) {
    auto* wide = scratch_bytes(kWidened, k * na * bytes);
    for (int64_t r = 0; r < k; ++r)
      convert(from_row(a, r).data, a.type, wide + r * na * bytes, kernel.operand, na);
    a = {wide, na, kernel.operand};
  }
  if (k == 0 && !out.add)
    for (int64_t r = 0; r < na; ++r) std::fill_n(static_cast<float*>(out.data) + r * out.stride, nb, 0.0f);
  // Some of K at a time, so that panels of many columns and a block of the transposed left operand are in the
  // second-level cache together.
  for (int64_t first = 0; first < k; first += kSummedAtOnce) {
    const auto rows = std::min(kSummedAtOnce, k - first), stride = cells_of(kernel, rows) * kernel.pair;
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
      auto* panels = scratch_bytes(kPanels, panel_bytes(kernel, rows, count));
      pack_panels(kernel, right, column, count, panels);
      on_team((na + kLeftAtOnce - 1) / kLeftAtOnce, [&](int64_t block) {
        const auto begin = block * kLeftAtOnce, some = std::min(kLeftAtOnce, na - begin);
        auto* left = scratch_bytes(kTransposed, kLeftAtOnce * kSummedAtOnce * bytes);
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

int64_t panel_bytes(const GemmKernel& kernel, int64_t k, int64_t count) {
  const auto whole = count / kernel.width * kernel.width;
  return cells_of(kernel, k) * (whole * 4 + (whole < count ? cell_row_bytes(kernel, count - whole) : 0));
}

void pack_panels(const GemmKernel& kernel, const GemmMatrix& b, int64_t first, int64_t count,
                 std::byte* panels) {
  pack_piece(kernel, b, 0, b.k(), first, count, panels, panel_bytes(kernel, b.k(), kernel.width), 0);
}

Int8Panels pack_int8_panels(const GemmKernel& kernel, const GemmMatrix& b, const float* scales) {
  const auto rows = int8_rows(0, b.k(), nullptr);
  const auto count = (b.n() + kernel.width - 1) / kernel.width;
  const GemmTerm term{{}, b, scales};
  const Int8Term at{
      &term, rows, scratch_bytes(kInt8Panels, count * rows.stride * kernel.width), rows.stride * kernel.width,
      reinterpret_cast<int32_t*>(scratch_bytes(kCorrections, count * rows.groups * kernel.width * 4))};
  pack_int8(*int8_kernel(), kernel, at, 0, b.n());
  return {b.k(), b.n(), scales, at.panels, at.corrections};
}

void add_int8_product(const GemmKernel& kernel, GemmRows a, int64_t m, const Int8Panels& w, float* out,
                      int64_t stride) {
  const auto& integers = *int8_kernel();
  auto rows = int8_rows(m, w.k, scratch_bytes(kInt8Rows, int8_rows_bytes(int8_rows(m, w.k, nullptr))));
  quantize_rows(integers, a, w.scales, rows);
  const auto* panel = w.panels;
  const auto* corrections = w.corrections;
  for (int64_t first = 0; first < w.n;
       first += kernel.width, panel += rows.stride * kernel.width, corrections += rows.groups * kernel.width)
    integers.multiply(rows, panel, corrections, nullptr, std::min(kernel.width, w.n - first), out + first,
                      stride, true);
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
