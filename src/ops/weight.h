// A weight matrix is a value with a format: dense (and then perhaps trainable) or block-quantized (and then
// frozen).
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <span>

#include "ops/device_copies.h"
#include "ops/gemm.h"
#include "quant/types.h"

namespace retort {

// The scales of a matrix of 4-bit codes, and how they belong to them (quant/packed4.h).
struct CodeScales {
  at::Tensor scales;                      // fp32, [rows, groups] or, where groups run on, one after the other
  at::Tensor zeros, group_of;             // uint8, as many; int32 [columns]; or neither
  int64_t groups = 0, group_columns = 2;  // of CodeGroups
  std::span<const float, 16> book = kWholeCodes;
  bool high_first = false;
};

struct Weight {  // [rows, columns] = [out, in]: y = x W^T
  WeightType type = WeightType::f32;
  int64_t rows = 0, columns = 0;
  at::Tensor dense;                   // f32, bf16 or f16 when the type is dense
  std::span<const std::byte> blocks;  // rows * row_bytes(type, columns) when the type is block-quantized
  std::shared_ptr<const void> owner;  // keeps `blocks` alive (a mapped file or a buffer)
  at::Tensor scales;                  // fp32 [grid]: of F8_E4M3, whose `blocks` are codes alone (scaled_f8.h)
  int64_t scale_rows = 0, scale_columns = 0;      // of a block of it
  std::shared_ptr<const CodeScales> code_scales;  // of packed4, whose `blocks` are codes alone
  std::shared_ptr<DeviceCopies> copies;           // of its numbers, while it is frozen

  // False for one that only says what its matrix is like: the numbers are where Linear::source has them.
  bool present() const { return dense.defined() || !blocks.empty(); }
  bool trainable() const { return dense.defined() && dense.requires_grad(); }
  uint64_t stored_bytes() const;
  // Without scales where the type has none; valid while the weight lives.
  ScaleGrid grid() const;
  CodeGroups groups() const;
  GemmMatrix operand(
      bool transposed) const;  // of y = x W^T, or transposed of dx = dy W; valid while the weight lives
};

Weight dense_weight(at::Tensor matrix);
Weight absent_weight(WeightType type, int64_t rows, int64_t columns);
// Views quantized bytes without copying; throws std::logic_error when sizes disagree.
Weight block_weight(WeightType type, int64_t rows, int64_t columns, std::span<const std::byte> blocks,
                    std::shared_ptr<const void> owner);
// The same for F8_E4M3 codes with a scale for each block of so many rows and columns.
Weight scaled_f8_weight(int64_t rows, int64_t columns, std::span<const std::byte> codes,
                        std::shared_ptr<const void> owner, at::Tensor scales, int64_t scale_rows,
                        int64_t scale_columns);
// The same for codes of 4 bits; columns are an even number.
Weight packed4_weight(int64_t rows, int64_t columns, std::span<const std::byte> codes,
                      std::shared_ptr<const void> owner, CodeScales scales);
// Re-encodes any weight as `type` (dense or quantized), row by row, without a full fp32 copy.
Weight convert_weight(const Weight& weight, WeightType type);
// The matrix as a dense tensor [rows, columns] of f32 or bf16 (a new tensor unless it is already that).
at::Tensor widen(const Weight& weight, at::ScalarType type);
// Rows [first, first + count) as a dense tensor: embedding look-ups and chunks of the head.
at::Tensor widen_rows(const Weight& weight, int64_t first, int64_t count, at::ScalarType type);

// The same for the duration of one product: the dense tensor itself, or this thread's buffer, which the next
// call reuses.
at::Tensor widen_for_use(const Weight& weight, int64_t first, int64_t count, at::ScalarType type);
// The same into `out` [count, columns], f32 or bf16, contiguous.
void widen_rows_into(const Weight& weight, int64_t first, int64_t count, at::Tensor& out);

}  // namespace retort
