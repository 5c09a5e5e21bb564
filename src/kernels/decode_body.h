// The bodies of the decoding kernels (kernels/threads.h). A thread decodes eight elements that follow each
// other and stores them as 16 bytes of bfloat16, or twice 16 of fp32.
#pragma once
#include "kernels/decode_formats.h"
#include "kernels/decode_job.h"
#include "kernels/threads.h"
#include "quant/scaled_f8.h"

namespace retort {

inline constexpr int kDecodeThreads = 256;
inline constexpr int kTileElements = 8 * kDecodeThreads;

// Bytes of the tile of blocks that a block of threads decodes at a time; whole blocks of every type.
template <class Format> constexpr int tile_bytes() {
  using Block = typename Format::Block;
  constexpr int kBytes = kTileElements / Format::kElements * static_cast<int>(sizeof(Block));
  static_assert(kTileElements % Format::kElements == 0 && kBytes % 16 == 0 && alignof(Block) == 1);
  static_assert(kBytes / 16 <= kDecodeThreads);  // each thread brings 16 bytes at most
  return kBytes;
}
template <class Format> constexpr int book_bytes() {
  return Format::kEntries * static_cast<int>(sizeof(typename Format::Entry));
}
template <class Format> constexpr int shared_bytes_of_blocks() {
  return tile_bytes<Format>() + book_bytes<Format>();
}

template <class Format, class Threads, class Book>
HOST_DEVICE void copy_book(Threads& threads, const DecodeJob& job, Book book) {
  const auto* from = static_cast<const typename Format::Entry*>(job.book);
  for (int i = threads.thread(); i < Format::kEntries; i += threads.threads()) book.put(i, from[i]);
}

// Types of blocks. A tile's bytes come in 16 at a time, neighbours by neighbours, however long a block is;
// the threads then read their blocks from the tile.
template <class Format, class Out, class Threads>
HOST_DEVICE void decode_tiles(Threads& threads, const DecodeJob& job) {
  using Block = typename Format::Block;
  using Entry = typename Format::Entry;
  constexpr int kTile = tile_bytes<Format>();
  constexpr int kBlock = static_cast<int>(sizeof(Block));
  auto book = threads.template shared<Entry>(kTile, Format::kEntries);
  auto tile = threads.template shared<Words>(0, kTile / 16);
  auto tile_bytes_of = threads.template shared<uint8_t>(0, kTile);
  copy_book<Format>(threads, job, book);
  const int64_t elements = job.rows * job.columns, bytes = elements / Format::kElements * kBlock;
  const int64_t tiles = (elements + kTileElements - 1) / kTileElements;
  auto* out = static_cast<Out*>(job.out);
  const int me = threads.thread();
  for (int64_t t = threads.block(); t < tiles; t += threads.blocks()) {
    const int64_t begin = t * kTile;
    const int here = static_cast<int>(bytes - begin < kTile ? bytes - begin : kTile);
    if (me < here / 16) tile.put(me, threads.load16(job.stored + begin + 16 * me));
    if (const int at = here / 16 * 16 + me; at < here)  // the matrix ends within 16 bytes
      tile_bytes_of.put(at, job.stored[begin + at]);
    threads.barrier();
    const int64_t first = t * kTileElements + 8 * me;
    if (first < elements) {
      constexpr unsigned kEights = Format::kElements / 8;
      const auto eight = static_cast<unsigned>(me);
      const int block = static_cast<int>(eight / kEights);
      float values[8];
      Format::decode8(*reinterpret_cast<const Block*>(tile_bytes_of.read(block * kBlock, kBlock)),
                      static_cast<int>(eight % kEights), book.read(0, Format::kEntries), values);
      store8(threads, out + first, values);
    }
    threads.barrier();  // before the tile is filled again
  }
}

// Of a matrix whose rows are multiples of 8 long: where the eight elements of group g are.
struct EightOfRow {
  uint32_t row, column;
};
HOST_DEVICE inline EightOfRow eight_of_row(const DecodeJob& job, uint32_t g) {
  const uint32_t of_row = static_cast<uint32_t>(job.columns) / 8, row = g / of_row;
  return {row, 8 * (g - row * of_row)};
}

template <class Threads> HOST_DEVICE void decode8(Int8Rows, Threads& threads, const DecodeJob& job,
                                                  uint32_t g, const float*, float* out) {
  const auto [row, column] = eight_of_row(job, g);
  const uint8_t* stored = job.stored + row * (kInt8RowHeader + job.columns);
  const float scale = float_from_bits(threads.load_word(stored));
  for (int half = 0; half < 2; ++half) {
    const uint32_t codes = threads.load_word(stored + kInt8RowHeader + column + 4 * half);
    for (int j = 0; j < 4; ++j)
      out[4 * half + j] = static_cast<float>(static_cast<int8_t>(codes >> (8 * j) & 255)) * scale;
  }
}

template <class Threads> HOST_DEVICE void decode8(Nf4DqRows, Threads&, const DecodeJob& job, uint32_t g,
                                                  const float* book, float* out) {
  const auto [row, column] = eight_of_row(job, g);
  const int64_t blocks = job.columns / kNf4Elements, block = column / kNf4Elements;
  const uint8_t* stored = job.stored + row * (kNf4DqHeader + kNf4DqBlock * blocks);
  const float absmax = nf4_dq_absmax(stored, block, book + 16);
  const uint8_t* codes = nf4_dq_codes(stored, blocks, block);
  for (int j = 0; j < 8; ++j)
    out[j] = book[nf4_code_at(codes, static_cast<int>(column % kNf4Elements) + j)] * absmax;
}

// The scale of an element of the matrix; rows and blocks are less than 2^32.
HOST_DEVICE inline int64_t f8_scale_at(const DecodeJob& job, uint32_t row, uint32_t column) {
  const uint32_t of_matrix = static_cast<uint32_t>(job.first_row) + row;
  return of_matrix / static_cast<uint32_t>(job.block_rows) * job.scale_columns +
         column / static_cast<uint32_t>(job.block_columns);
}
HOST_DEVICE inline int64_t code_group_at(const DecodeJob& job, uint32_t row, uint32_t column) {
  const int64_t of_matrix = job.first_row + row;
  if (job.group_of) return of_matrix * job.scale_columns + job.group_of[column];
  if (job.scale_columns > 0)
    return of_matrix * job.scale_columns + column / static_cast<uint32_t>(job.block_columns);
  return (of_matrix * job.columns + column) / job.block_columns;  // groups run on over rows
}

template <class Threads> HOST_DEVICE void decode8(ScaledF8, Threads& threads, const DecodeJob& job,
                                                  uint32_t g, const float*, float* out) {
  const auto [row, column] = eight_of_row(job, g);
  const uint8_t* stored = job.stored + 8 * static_cast<int64_t>(g);
  const float scale = job.scales[f8_scale_at(job, row, column)];
  for (int half = 0; half < 2; ++half) {
    const uint32_t codes = threads.load_word(stored + 4 * half);
    for (int j = 0; j < 4; ++j)
      out[4 * half + j] = scaled_f8_value(static_cast<uint8_t>(codes >> (8 * j)), scale);
  }
}
HOST_DEVICE inline float element(ScaledF8, const DecodeJob& job, int64_t i, uint32_t row, uint32_t column,
                                 const float*) {
  return scaled_f8_value(job.stored[i], job.scales[f8_scale_at(job, row, column)]);
}

// Of the byte that holds element i; i may count from any even element.
HOST_DEVICE inline float packed4_value(const DecodeJob& job, uint32_t byte, int64_t i, int64_t group,
                                       const float* book) {
  const uint32_t code = byte >> ((i % 2 == 0) == job.high_first ? 4 : 0) & 15;
  const float zero = job.zeros ? static_cast<float>(job.zeros[group]) : 0.0f;
  return (book[code] - zero) * job.scales[group];
}
template <class Threads> HOST_DEVICE void decode8(Packed4, Threads& threads, const DecodeJob& job, uint32_t g,
                                                  const float* book, float* out) {
  const auto [row, column] = eight_of_row(job, g);
  const uint32_t codes = threads.load_word(job.stored + 4 * static_cast<int64_t>(g));
  // Groups that run on over rows: counted in eights from the matrix's first.
  const int64_t group = job.scale_columns > 0
                            ? code_group_at(job, row, column)
                            : (static_cast<uint32_t>(job.first_row * (job.columns / 8)) + g) /
                                  (static_cast<uint32_t>(job.block_columns) / 8);
  for (uint32_t j = 0; j < 8; ++j) out[j] = packed4_value(job, codes >> (8 * (j / 2)), j, group, book);
}
HOST_DEVICE inline float element(Packed4, const DecodeJob& job, int64_t i, uint32_t row, uint32_t column,
                                 const float* book) {
  return packed4_value(job, job.stored[i / 2], i, code_group_at(job, row, column), book);
}

// Rows with a header are multiples of 32 long, and never gone through element by element.
template <class Format>
HOST_DEVICE float element(Format, const DecodeJob&, int64_t, uint32_t, uint32_t, const float*) {
  return 0;
}

// Whether eight neighbours are in one row and have one scale.
template <class Format> HOST_DEVICE bool in_eights(Format, const DecodeJob&) { return true; }
HOST_DEVICE inline bool in_eights(ScaledF8, const DecodeJob& job) {
  return job.columns % 8 == 0 && job.block_columns % 8 == 0;
}
HOST_DEVICE inline bool in_eights(Packed4, const DecodeJob& job) {
  return !job.group_of && job.columns % 8 == 0 && job.block_columns % 8 == 0;
}

// Types that are decoded in place, in eights where that can be, else eight elements of the matrix as one long
// row, each with a scale of its own. The matrix has less than 2^32 eights.
template <class Format, class Out, class Threads>
HOST_DEVICE void decode_rows(Threads& threads, const DecodeJob& job) {
  auto shared_book = threads.template shared<float>(0, Format::kEntries);
  copy_book<Format>(threads, job, shared_book);
  threads.barrier();
  const float* book = shared_book.read(0, Format::kEntries);
  const int64_t elements = job.rows * job.columns;
  auto* out = static_cast<Out*>(job.out);
  const int64_t begin = threads.block() * kDecodeThreads + threads.thread();
  const int64_t step = threads.blocks() * kDecodeThreads;
  if (in_eights(Format(), job)) {
    for (int64_t g = begin; 8 * g < elements; g += step) {
      float values[8];
      decode8(Format(), threads, job, static_cast<uint32_t>(g), book, values);
      store8(threads, out + 8 * g, values);
    }
    return;
  }
  for (int64_t g = begin; 8 * g < elements; g += step)
    for (int64_t i = 8 * g; i < elements && i < 8 * g + 8; ++i)
      narrow_to(out[i], element(Format(), job, i, static_cast<uint32_t>(i / job.columns),
                                static_cast<uint32_t>(i % job.columns), book));
}

}  // namespace retort
