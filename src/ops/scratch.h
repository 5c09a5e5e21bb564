// Memory that a thread keeps between two products: one list of what it is used for, so that no two uses that
// live at a time share a piece.
#pragma once
#include <cstddef>
#include <cstdint>

namespace retort {

enum class Scratch : uint8_t {
  // A product's own, until the thread's next product.
  panels,
  decoded,
  operands,
  partial,
  transposed,
  widened,
  sliced,
  int8_rows,
  int8_panels,
  int8_codes,
  corrections,
  // Attention's, until the thread's next piece of attention.
  keys_to_transpose,
  key_row,
  queries,
  upstream,
  query_panels,
  upstream_panels,
  scores,
  slopes,
  sums,
  probabilities,
  gradients,
  score_panels,
  columns,
  query_rows,
  upstream_rows,
  // The head's, which is never at work while the thread attends.
  column_panels = keys_to_transpose,
  row_panels,
  logits,
  head_probabilities,
  head_decoded,
  // Callers outside of this room: tests and benchmarks.
  callers = upstream_rows + 1,
};

// This thread's memory for that use, 64-byte aligned, at least `bytes` long; what it held stays until a call
// asks for more than it has.
std::byte* scratch_bytes(Scratch use, int64_t bytes);

}  // namespace retort
