#include "quant/decode_cuda.h"

#include <stdexcept>

#include "base/error.h"
#include "quant/decode_kernels.h"

namespace retort {

bool decodes_on_cuda(WeightType type) { return has_decode_kernel(type); }

void dequantize_rows_cuda(WeightType type, const std::byte* in, float* out, int64_t rows, int64_t columns,
                          void* stream) {
  if (!decodes_on_cuda(type))
    throw std::logic_error("no CUDA kernel decodes " + std::string(type_info(type).name));
  if (rows * columns == 0) return;
  if (const char* refused = launch_decode_kernel(type, in, out, rows, columns, stream))
    throw Failure(fmt::format("CUDA: decoding {} failed: {}", type_info(type).name, refused));
}

}  // namespace retort
