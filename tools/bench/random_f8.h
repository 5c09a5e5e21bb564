// What benches of FP8 multiply.
#pragma once
#include <ATen/ATen.h>

#include <memory>

#include "ops/weight.h"

namespace retort {

// F8_E4M3 with a scale for each block of 128 by 128, of codes that are numbers.
inline Weight random_f8(int64_t rows, int64_t columns) {
  constexpr int64_t kBlock = 128;
  auto codes = at::randint(0, 127, {rows, columns}, at::TensorOptions(at::kByte)) +
               128 * at::randint(0, 2, {rows, columns}, at::TensorOptions(at::kByte));
  auto held = std::make_shared<at::Tensor>(codes.to(at::kByte).contiguous());
  const std::span bytes(static_cast<const std::byte*>(held->const_data_ptr()),
                        static_cast<size_t>(held->numel()));
  return scaled_f8_weight(rows, columns, bytes, held,
                          at::rand({(rows + kBlock - 1) / kBlock, (columns + kBlock - 1) / kBlock}) * 1e-3,
                          kBlock, kBlock);
}

}  // namespace retort
