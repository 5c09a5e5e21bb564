#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"
#include "quant/decode_cuda.h"

namespace retort {

// The arithmetic itself is shared with the CPU's decoders, which the other tests hold against llama.cpp's.
TEST(DecodeCuda, EveryKernelEqualsTheCpuBitForBit) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) GTEST_SKIP() << "no GPU on this machine";
  const int64_t rows = 3, columns = 512;
  const Draws draws(7, "decode");
  std::vector<float> values(rows * columns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(draws.normal(i));
  int kernels = 0;
  for (const auto& info : all_types()) {
    if (!decodes_on_cuda(info.type)) continue;
    ++kernels;
    const auto stored_bytes = rows * *row_bytes(info.type, columns);
    std::vector<std::byte> stored(stored_bytes);
    quantize_rows(info.type, values.data(), stored.data(), rows, columns);
    std::vector<float> expected(values.size()), found(values.size());
    dequantize_rows(info.type, stored.data(), expected.data(), rows, columns);
    std::byte* device_in = nullptr;
    float* device_out = nullptr;
    ASSERT_EQ(cudaMalloc(&device_in, stored_bytes), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&device_out, found.size() * sizeof(float)), cudaSuccess);
    cudaMemcpy(device_in, stored.data(), stored_bytes, cudaMemcpyHostToDevice);
    dequantize_rows_cuda(info.type, device_in, device_out, rows, columns, nullptr);
    ASSERT_EQ(cudaMemcpy(found.data(), device_out, found.size() * sizeof(float), cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(std::memcmp(found.data(), expected.data(), found.size() * sizeof(float)), 0) << info.name;
    cudaFree(device_in);
    cudaFree(device_out);
  }
  EXPECT_EQ(kernels, 12);
}

}  // namespace retort
