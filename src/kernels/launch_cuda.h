// What the .cu files share: how kernels are started, and in how many blocks. For nvcc alone.
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

// Starts a kernel for so many pieces of work, a block of `threads` each, on a stream (a cudaStream_t). Null,
// or CUDA's words when the launch is refused. Nothing is started where there is no work.
template <class Job> const char* start(void (*kernel)(const Job), int64_t pieces, int threads,
                                       int shared_bytes, const Job& job, void* stream) {
  if (pieces == 0) return nullptr;
  kernel<<<grid_of(pieces), threads, shared_bytes, static_cast<cudaStream_t>(stream)>>>(job);
  return launch_error();
}

inline int64_t pieces_of(int64_t count, int64_t each) { return (count + each - 1) / each; }

}  // namespace retort
