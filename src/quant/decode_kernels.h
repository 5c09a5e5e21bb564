// Between decode.cu and the C++ that calls it: nvcc cannot parse fmt, so errors are words here and exceptions
// there.
#pragma once
#include <cstddef>
#include <cstdint>

#include "quant/types.h"

namespace retort {

bool has_decode_kernel(WeightType type);
// Nullptr, or CUDA's words when the launch is refused. Asynchronous on `stream`.
const char* launch_decode_kernel(WeightType type, const std::byte* in, float* out, int64_t rows,
                                 int64_t columns, void* stream);

}  // namespace retort
