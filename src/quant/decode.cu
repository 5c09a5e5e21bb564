#include <cuda_runtime.h>

#include "quant/blocks32.h"
#include "quant/decode_kernels.h"
#include "quant/int8_row.h"
#include "quant/k_blocks.h"
#include "quant/nf4.h"

namespace retort {
namespace {

constexpr int kThreads = 256;

// Blocks that stand alone: element i of the matrix is element i % n of block i / n.
template <class Block, int n, float (*value)(const Block&, int)>
__global__ void decode_blocks(const Block* blocks, float* out, int64_t elements) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < elements) out[i] = value(blocks[i / n], static_cast<int>(i % n));
}

__global__ void decode_int8_rows(const uint8_t* in, float* out, int64_t rows, int64_t columns) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < rows * columns) out[i] = int8_row_value(in + i / columns * (kInt8RowHeader + columns), i % columns);
}

unsigned grid(int64_t elements) { return static_cast<unsigned>((elements + kThreads - 1) / kThreads); }

template <class Block, int n, float (*value)(const Block&, int)>
void launch(const std::byte* in, float* out, int64_t rows, int64_t columns, cudaStream_t stream) {
  decode_blocks<Block, n, value><<<grid(rows * columns), kThreads, 0, stream>>>(
      reinterpret_cast<const Block*>(in), out, rows * columns);
}

void launch_int8_rows(const std::byte* in, float* out, int64_t rows, int64_t columns, cudaStream_t stream) {
  decode_int8_rows<<<grid(rows * columns), kThreads, 0, stream>>>(reinterpret_cast<const uint8_t*>(in), out,
                                                                  rows, columns);
}

using Launch = void (*)(const std::byte*, float*, int64_t, int64_t, cudaStream_t);
struct Kernel {
  WeightType type;
  Launch launch;
};
constexpr Kernel kKernels[] = {
    {WeightType::q4_0, launch<Q4_0Block, 32, q4_0_value>},
    {WeightType::q4_1, launch<Q4_1Block, 32, q4_1_value>},
    {WeightType::q5_0, launch<Q5_0Block, 32, q5_0_value>},
    {WeightType::q5_1, launch<Q5_1Block, 32, q5_1_value>},
    {WeightType::q8_0, launch<Q8_0Block, 32, q8_0_value>},
    {WeightType::q2_k, launch<Q2_KBlock, 256, q2_k_value>},
    {WeightType::q3_k, launch<Q3_KBlock, 256, q3_k_value>},
    {WeightType::q4_k, launch<Q4_KBlock, 256, q4_k_value>},
    {WeightType::q5_k, launch<Q5_KBlock, 256, q5_k_value>},
    {WeightType::q6_k, launch<Q6_KBlock, 256, q6_k_value>},
    {WeightType::nf4, launch<Nf4Block, 64, nf4_dequantize>},
    {WeightType::int8_row, launch_int8_rows},
};

Launch kernel_for(WeightType type) {
  for (const auto& kernel : kKernels)
    if (kernel.type == type) return kernel.launch;
  return nullptr;
}

}  // namespace

bool has_decode_kernel(WeightType type) { return kernel_for(type) != nullptr; }

const char* launch_decode_kernel(WeightType type, const std::byte* in, float* out, int64_t rows,
                                 int64_t columns, void* stream) {
  kernel_for(type)(in, out, rows, columns, static_cast<cudaStream_t>(stream));
  const auto status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace retort
