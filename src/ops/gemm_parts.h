// What the products of gemm.h share: pieces of operands, and panels of the right one. Nobody else includes
// this.
#pragma once
#include <span>
#include <vector>

#include "ops/gemm.h"

namespace retort {

constexpr int64_t kRowsAtOnce = 32;  // of a transposed matrix: decoded before they are packed
constexpr int64_t kGroupBytes = 640 << 10;
constexpr int64_t kPassElements =
    3072;  // of K: a panel of 48 bf16 columns is 288 KiB, a part of the second-level cache

// Rows [row, row + rows) and columns [column, column + columns) of a matrix.
struct Block {
  int64_t row, rows, column, columns;
};

inline int64_t bytes_of(Operand type) { return type == Operand::f32 ? 4 : 2; }
inline int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }
inline int64_t cells_of(const GemmKernel& kernel, int64_t k) { return (k + kernel.pair - 1) / kernel.pair; }
// The same filled up to whole tiles, for the kernels that have tiles.
inline int64_t filled_cells(const GemmKernel& kernel, int64_t k) {
  return (cells_of(kernel, k) + kernel.tile_cells - 1) / kernel.tile_cells * kernel.tile_cells;
}
// Bytes of one cell row of a panel of so many columns.
inline int64_t cell_row_bytes(const GemmKernel& kernel, int64_t columns) {
  return (columns + kernel.lanes - 1) / kernel.lanes * kernel.lanes * 4;
}
inline GemmRows from_row(const GemmRows& rows, int64_t row) {
  return {static_cast<const std::byte*>(rows.data) + row * rows.stride * bytes_of(rows.type), rows.stride,
          rows.type};
}

// Of bf16 rows for tiles: an odd number of cache lines, so that 16 rows are in many sets of the caches.
int64_t odd_lines(int64_t elements);

void convert(const void* from, Operand type, void* to, Operand wanted, int64_t count);

// A block of b in the kernel's operand type, dense.
void decode(const GemmKernel& kernel, const GemmMatrix& b, const Block& block, std::byte* out);

// Panels `stride` bytes apart, and the number of the cell of each that is written next.
struct PanelPlace {
  std::byte* panels;
  int64_t stride, cell;
};
// Elements [row, row + rows) of K and columns [column, column + columns) of B into panels.
void pack_piece(const GemmKernel& kernel, const GemmMatrix& b, const Block& piece, PanelPlace to);

// The cells after so many elements of K of `count` columns, as far as filled_cells(): zeros.
void fill_panels(const GemmKernel& kernel, int64_t k, int64_t count, PanelPlace to);

// One pass is some elements of K of some terms: as much as has its panels in cache together.
struct Piece {
  size_t term;
  int64_t first, count;  // of K
};
std::vector<std::vector<Piece>> passes_of(std::span<const GemmTerm> terms);

// Columns that a transposed quantized matrix can be decoded by: whole blocks and, where that is not all of
// them, whole panels.
int64_t unit_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t n);
// Columns that are packed together: of a transposed matrix as many as leave their panels in the second-level
// cache, since the more of each row is read at a time, the fewer turns memory takes.
// Tiles are so fast that left operands beyond that cache hold them up: of many rows, too, several panels are
// made, by which those that fit pass before the next rows come.
int64_t group_of(const GemmKernel& kernel, std::span<const GemmTerm> terms, int64_t m, int64_t n);
// Rows of so many bytes that fit beside the panels of a group: of tiles of a CPU with 2 MiB a core.
int64_t rows_near(int64_t row_bytes);

// The left operands, rows [row, row + m), of some pieces of K as the kernel reads them: in place where they
// are, else converted, padded or laid close together in this thread's scratch. `close`: each element is read
// once for every panel, and rows far apart (logits are 100 kB wide) would share a few sets of the caches.
// `columns` of the result are made with them.
struct OperandRows {
  int64_t row, m, columns;
  bool close;
};
std::vector<GemmRows> operands_of(const GemmKernel& kernel, std::span<const GemmTerm> terms,
                                  std::span<const Piece> pieces, const OperandRows& which);
// How much of the scratch that takes.
int64_t copy_bytes(const GemmKernel& kernel, std::span<const GemmTerm> terms, std::span<const Piece> pieces,
                   const OperandRows& which);

// As gemm(), of one block of the result by one thread, with some terms on integers.
void int8_block(const GemmKernel& kernel, std::span<const GemmTerm> terms, const Block& block,
                const GemmOutput& out);

}  // namespace retort
