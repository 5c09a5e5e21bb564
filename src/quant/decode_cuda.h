// Decoding of stored weights on a CUDA device: the same HOST_DEVICE functions as on the CPU, one thread an
// element.
#pragma once
#include <cstddef>
#include <cstdint>

#include "quant/types.h"

namespace retort {

// Whether a kernel exists for `type`: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K .. Q6_K, nf4, int8_row.
bool decodes_on_cuda(WeightType type);

// `in` holds `rows` rows of `columns` elements in device memory, `out` receives fp32 in device memory.
// Asynchronous on `stream` (a cudaStream_t). Throws Failure when the launch is refused, std::logic_error when
// there is no kernel.
void dequantize_rows_cuda(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns,
                          void* stream);

}  // namespace retort
