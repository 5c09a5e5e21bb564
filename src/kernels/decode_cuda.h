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
  const auto pieces = pieces_of(job.rows * job.columns, kTileElements);
  const char* refused = nullptr;
  const auto tiles = [&](auto format) {
    using Format = decltype(format);
    refused = start(decode_tiles_kernel<Format, Out>, pieces, kDecodeThreads,
                    shared_bytes_of_blocks<Format>(), job, stream);
  };
  const auto rows = [&](auto format) {
    using Format = decltype(format);
    refused =
        start(decode_rows_kernel<Format, Out>, pieces, kDecodeThreads, book_bytes<Format>(), job, stream);
  };
  if (!with_block_format(job.type, tiles) && !with_row_format(job.type, rows))
    return "there is no kernel for this type";
  return refused;
}

}  // namespace retort
