// The decoding kernels of one type of result, for decode_bf16.cu and decode_f32.cu. For nvcc alone.
#pragma once
#include "kernels/cuda_threads.h"
#include "kernels/decode_body.h"
#include "kernels/launch.h"
#include "kernels/launch_cuda.h"

namespace retort {

template <class Format, class Out> __global__ void __launch_bounds__(kDecodeThreads)
    decode_tiles_kernel(const DecodeJob job) {
  CudaThreads threads;
  decode_tiles<Format, Out>(threads, job);
}

template <class Format, class Out> __global__ void __launch_bounds__(kDecodeThreads)
    decode_rows_kernel(const DecodeJob job) {
  CudaThreads threads;
  decode_rows<Format, Out>(threads, job);
}

template <class Out> const char* launch_decode(const DecodeJob& job, void* stream) {
  if (job.rows * job.columns == 0) return nullptr;
  const auto grid = grid_of((job.rows * job.columns + kTileElements - 1) / kTileElements);
  const auto on = static_cast<cudaStream_t>(stream);
  const auto tiles = [&](auto format) {
    using Format = decltype(format);
    decode_tiles_kernel<Format, Out><<<grid, kDecodeThreads, shared_bytes_of_blocks<Format>(), on>>>(job);
  };
  const auto rows = [&](auto format) {
    using Format = decltype(format);
    decode_rows_kernel<Format, Out><<<grid, kDecodeThreads, book_bytes<Format>(), on>>>(job);
  };
  if (!with_block_format(job.type, tiles) && !with_row_format(job.type, rows))
    return "there is no kernel for this type";
  return launch_error();
}

}  // namespace retort
