// What the .cu files share: how many blocks are started. For nvcc alone.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>

namespace retort {

// Enough blocks of 256 threads to fill every multiprocessor (2,048 threads), and no more than there is work
// for: a block goes on with the next piece of work, and keeps what it looks up.
inline unsigned grid_of(int64_t pieces) {
  int device = 0, processors = 1;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  return static_cast<unsigned>(std::max<int64_t>(1, std::min<int64_t>(pieces, 8 * processors)));
}

inline const char* launch_error() {
  const auto status = cudaGetLastError();
  return status == cudaSuccess ? nullptr : cudaGetErrorString(status);
}

}  // namespace retort
