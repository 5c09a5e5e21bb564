// The right operand of a product becomes panels, a piece at a time; the left one rows that a kernel reads.
#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>

#include "ops/gemm_parts.h"
#include "ops/row_loops.h"
#include "ops/scratch.h"

namespace retort {
namespace {

constexpr int64_t kDecodedAtOnce = 512;  // elements of a row, whole blocks of every type: those of a vector
                                         // of rows are a part of the first-level cache

bool is_operand(const GemmKernel& kernel, const GemmMatrix& b) {
  return b.scale == 1 && b.type == (kernel.operand == Operand::f32 ? WeightType::f32 : WeightType::bf16);
}

// Parts of rows that are read next: too many streams, or too short ones, for the hardware to see.
void prefetch_rows(const std::byte* first, int64_t row_bytes, int64_t rows, int64_t bytes) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t at = 0; at < bytes + 63; at += 64)
      __builtin_prefetch(first + r * row_bytes + std::min(at, bytes - 1));
}

// The front of what is decoded after the columns before `k` of these rows of F8_E4M3: of more of them, or of
// the rows below. The decoder fetches the rest ahead of itself.
void prefetch_next_f8(const GemmMatrix& b, const Block& rows, int64_t k) {
  const bool below = k >= rows.columns;
  const auto row = below ? rows.row + rows.rows : rows.row, first = below ? 0 : k;
  prefetch_rows(b.data + row * b.row_bytes + rows.column + first, b.row_bytes,
                std::min(rows.rows, b.rows - row), std::min(kF8Ahead, rows.columns - first));
}

constexpr int64_t kNearBytes = 768 << 10;  // of rows of the left operand

// A tile reads a cache line of each of 16 rows: in one piece only where rows begin on lines, and from many
// sets of the caches only where an odd number of lines lies between them. On Emerald Rapids a panel's product
// takes 2.4 times as long from rows 4,096 bytes apart as from rows 4,160 apart, 1.1 times from rows 1,152
// apart.
constexpr int64_t kLineElements = 32;
// Columns of the result from which on a copy of the left operand that lies so is worth making, and rows: of
// fewer the loads of the panel are most of the work.
constexpr int64_t kCopyColumns = 1024, kCopyRows = 17;
bool good_for_tiles(const GemmRows& a) {
  return reinterpret_cast<uintptr_t>(a.data) % 64 == 0 && a.stride % (2 * kLineElements) == kLineElements;
}

}  // namespace

int64_t odd_lines(int64_t elements) {
  return ((elements + kLineElements - 1) / kLineElements | 1) * kLineElements;
}

void convert(const void* from, Operand type, void* to, Operand wanted, int64_t count) {
  if (type == wanted) std::memcpy(to, from, static_cast<size_t>(count * bytes_of(type)));
  else if (type == Operand::bf16)
    row_loops().bf16.to_float(static_cast<const uint16_t*>(from), 1, static_cast<float*>(to), count);
  else row_loops().bf16.from_float(static_cast<const float*>(from), static_cast<uint16_t*>(to), count);
}

void decode(const GemmKernel& kernel, const GemmMatrix& b, const Block& block, std::byte* out) {
  const auto [row, rows, first, count] = block;
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

void pack_piece(const GemmKernel& kernel, const GemmMatrix& b, const Block& piece, PanelPlace to) {
  const int64_t k_first = piece.row, k_count = piece.rows, column = piece.column, count = piece.columns;
  const auto bytes = bytes_of(kernel.operand);
  const bool direct = is_operand(kernel, b);
  const auto& info = type_info(b.type);
  const auto each_panel = [&](auto&& visit) {
    auto* panels = to.panels;
    for (int64_t c = 0; c < count; c += kernel.width, panels += to.stride) {
      const auto some = std::min(kernel.width, count - c), width = cell_row_bytes(kernel, some);
      visit(c, some, panels + to.cell * width, width);
    }
  };
  if (!b.transposed) {
    const auto at_once = info.row_header_bytes > 0 ? k_count : std::min(k_count, kDecodedAtOnce);
    auto* decoded = direct ? nullptr : scratch_bytes(Scratch::decoded, kernel.lanes * at_once * bytes);
    each_panel([&](int64_t c, int64_t some, std::byte* panel, int64_t width) {
      for (int64_t v = 0; v < some; v += kernel.lanes) {
        const auto rows = std::min(kernel.lanes, some - v);
        for (int64_t k = 0; k < k_count; k += at_once) {
          const auto elements = std::min(at_once, k_count - k);
          const auto* from =
              direct ? b.data + (column + c + v) * b.row_bytes + (k_first + k) * bytes : decoded;
          if (direct) {
            prefetch_rows(from + kernel.lanes * b.row_bytes, b.row_bytes,
                          std::min(kernel.lanes, b.rows - column - c - v - kernel.lanes), elements * bytes);
          } else {
            if (b.grid.scales) prefetch_next_f8(b, {column + c + v, rows, k_first, k_count}, k + elements);
            decode(kernel, b, {column + c + v, rows, k_first + k, elements}, decoded);
          }
          kernel.pack_rows(from, direct ? b.row_bytes : elements * bytes, rows, elements,
                           panel + v * 4 + k / kernel.pair * width, width);
        }
      }
    });
    return;
  }
  auto* decoded = direct ? nullptr : scratch_bytes(Scratch::decoded, kRowsAtOnce * count * bytes);
  const int64_t first_byte = column / info.block_elements * info.block_bytes,
                some_bytes = count / info.block_elements * info.block_bytes;
  for (int64_t k = 0; k < k_count; k += kRowsAtOnce) {
    const auto rows = std::min(kRowsAtOnce, k_count - k);
    const auto next = k + kRowsAtOnce;
    prefetch_rows(b.data + (k_first + next) * b.row_bytes + first_byte, b.row_bytes,
                  std::min(kRowsAtOnce, k_count - next), some_bytes);
    if (!direct) decode(kernel, b, {k_first + k, rows, column, count}, decoded);
    const auto* from = direct ? b.data + (k_first + k) * b.row_bytes + column * bytes : decoded;
    each_panel([&](int64_t c, int64_t some, std::byte* panel, int64_t width) {
      kernel.pack_columns(from + c * bytes, direct ? b.row_bytes : count * bytes, rows, some,
                          panel + k / kernel.pair * width);
    });
  }
}

void fill_panels(const GemmKernel& kernel, int64_t k, int64_t count, PanelPlace to) {
  const auto first = cells_of(kernel, k), missing = filled_cells(kernel, k) - first;
  if (missing == 0) return;
  auto* panels = to.panels;
  for (int64_t c = 0; c < count; c += kernel.width, panels += to.stride) {
    const auto width = cell_row_bytes(kernel, std::min(kernel.width, count - c));
    std::fill_n(panels + (to.cell + first) * width, missing * width, std::byte{});
  }
}

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

int64_t unit_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t n) {
  int64_t group = kernel.width;
  for (const auto& term : terms)
    if (term.b.transposed) group = std::lcm(group, type_info(term.b.type).block_elements);
  return std::min(group, n);
}

int64_t rows_near(int64_t row_bytes) {
  return std::max<int64_t>(1, kNearBytes / std::max<int64_t>(1, row_bytes) / 32) * 32;
}

int64_t group_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, int64_t n) {
  const auto unit = unit_of(kernel, terms, n);
  int64_t k = 0;
  bool transposed = false;
  for (const auto& term : terms)
    k += std::min(term.b.k(), kPassElements), transposed = transposed || term.b.transposed;
  const bool far = kernel.tile_cells > 1 && m > rows_near(std::min(k, kPassElements) * 2);
  if (!transposed && !far) return unit;
  const auto columns = kGroupBytes / (std::min(k, kPassElements) * bytes_of(kernel.operand));
  return std::min(n, std::max<int64_t>(1, columns / unit) * unit);
}

namespace {

// Whether the kernel reads this piece of the left operand where it lies.
bool in_place(const GemmKernel& kernel, const GemmRows& a, const Piece& piece, const OperandRows& which) {
  const bool tiles = kernel.tile_cells > 1;
  return a.type == kernel.operand && piece.count % (kernel.pair * kernel.tile_cells) == 0 &&
         !(which.close && a.stride > 2 * piece.count) &&
         !(tiles && which.m >= kCopyRows && which.columns >= kCopyColumns && !good_for_tiles(a));
}

// Elements from one row of a copy to the next.
int64_t copy_stride(const GemmKernel& kernel, const Piece& piece, bool close) {
  const auto filled = filled_cells(kernel, piece.count) * kernel.pair;
  return kernel.tile_cells > 1 ? odd_lines(filled) : filled + (close ? 64 / bytes_of(kernel.operand) : 0);
}

}  // namespace

int64_t copy_bytes(const GemmKernel& kernel, std::span<const GemmTerm> terms, std::span<const Piece> pieces,
                   const OperandRows& which) {
  int64_t needed = 0;
  for (const auto& piece : pieces)
    if (!in_place(kernel, terms[piece.term].a, piece, which))
      needed += aligned(which.m * copy_stride(kernel, piece, which.close) * bytes_of(kernel.operand));
  return needed;
}

std::vector<GemmRows> operands_of(const GemmKernel& kernel, std::span<const GemmTerm> terms,
                                  std::span<const Piece> pieces, const OperandRows& which) {
  const auto row = which.row, m = which.m;
  const auto bytes = bytes_of(kernel.operand);
  const auto needed = copy_bytes(kernel, terms, pieces, which);
  auto* scratch = needed == 0 ? nullptr : scratch_bytes(Scratch::operands, needed);
  std::vector<GemmRows> operands;
  for (const auto& piece : pieces) {
    auto rows = from_row(terms[piece.term].a, row);
    rows.data = static_cast<const std::byte*>(rows.data) + piece.first * bytes_of(rows.type);
    if (!in_place(kernel, terms[piece.term].a, piece, which)) {
      const auto stride = copy_stride(kernel, piece, which.close),
                 filled = filled_cells(kernel, piece.count) * kernel.pair;
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

int64_t panel_bytes(const GemmKernel& kernel, int64_t k, int64_t count) {
  const auto whole = count / kernel.width * kernel.width;
  return cells_of(kernel, k) * (whole * 4 + (whole < count ? cell_row_bytes(kernel, count - whole) : 0));
}

void pack_panels(const GemmKernel& kernel, const GemmMatrix& b, int64_t first, int64_t count,
                 std::byte* panels) {
  pack_piece(kernel, b, {0, b.k(), first, count}, {panels, panel_bytes(kernel, b.k(), kernel.width), 0});
}

}  // namespace retort
