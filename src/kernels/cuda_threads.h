// The threads of kernels/threads.h on a GPU. For nvcc alone.
#pragma once
#include <cuda_runtime.h>

#include "kernels/threads.h"

namespace retort {

template <class T> class CudaShared {
 public:
  __device__ explicit CudaShared(T* begin) : begin_(begin) {}
  __device__ void put(int i, T value) const { begin_[i] = value; }
  __device__ T get(int i) const { return begin_[i]; }
  __device__ const T* read(int first, int) const { return begin_ + first; }

 private:
  T* begin_;
};

class CudaThreads {
 public:
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ int64_t block() const { return blockIdx.x; }
  __device__ int64_t blocks() const { return gridDim.x; }
  __device__ void barrier() const { __syncthreads(); }
  template <class T> __device__ CudaShared<T> shared(int offset, int) const {
    extern __shared__ __align__(16) unsigned char block_memory[];
    return CudaShared<T>(reinterpret_cast<T*>(block_memory + offset));
  }
  __device__ Words load16(const void* from) const {
    const uint4 read = *static_cast<const uint4*>(from);
    return {{read.x, read.y, read.z, read.w}};
  }
  __device__ uint32_t load_word(const void* from) const { return *static_cast<const uint32_t*>(from); }
  __device__ void store16(void* to, const Words& words) const {
    *static_cast<uint4*>(to) = make_uint4(words.at[0], words.at[1], words.at[2], words.at[3]);
  }
};

}  // namespace retort
