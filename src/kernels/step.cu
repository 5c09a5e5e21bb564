// Dropout, norms, rotations, gated activations, the softmax of the head's chunks, and AdamW.
#include "kernels/cuda_threads.h"
#include "kernels/launch.h"
#include "kernels/launch_cuda.h"

namespace retort {
namespace {

template <class Number> __global__ void __launch_bounds__(kDropoutThreads) drop_kernel(const DropoutJob job) {
  CudaThreads threads;
  drop<Number>(threads, job);
}

template <class Number> __global__ void __launch_bounds__(kGatedThreads) gated_kernel(const GatedJob job) {
  CudaThreads threads;
  gate_numbers<Number>(threads, job);
}

template <class Number> __global__ void __launch_bounds__(kNormThreads) norm_kernel(const NormJob job) {
  CudaThreads threads;
  if (job.gradient) norm_rows_back<Number>(threads, job);
  else norm_rows<Number>(threads, job);
}

template <class Number> __global__ void __launch_bounds__(kRotateThreads) rotate_kernel(const RotateJob job) {
  CudaThreads threads;
  rotate_heads<Number>(threads, job);
}

__global__ void __launch_bounds__(kSoftmaxThreads) softmax_kernel(const SoftmaxJob job) {
  CudaThreads threads;
  softmax_gradient(threads, job);
}

__global__ void __launch_bounds__(kAdamwThreads) adamw_kernel(const AdamwJob job) {
  CudaThreads threads;
  adamw(threads, job);
}

}  // namespace

const char* launch_drop(const DropoutJob& job, bool bf16, void* stream) {
  if (job.count == 0) return nullptr;
  const auto grid = grid_of((job.count + 8 * kDropoutThreads - 1) / (8 * kDropoutThreads));
  const auto on = static_cast<cudaStream_t>(stream);
  if (bf16) drop_kernel<uint16_t><<<grid, kDropoutThreads, 0, on>>>(job);
  else drop_kernel<float><<<grid, kDropoutThreads, 0, on>>>(job);
  return launch_error();
}

const char* launch_gated(const GatedJob& job, bool bf16, void* stream) {
  if (job.count == 0) return nullptr;
  const auto grid = grid_of((job.count + 8 * kGatedThreads - 1) / (8 * kGatedThreads));
  const auto on = static_cast<cudaStream_t>(stream);
  if (bf16) gated_kernel<uint16_t><<<grid, kGatedThreads, 0, on>>>(job);
  else gated_kernel<float><<<grid, kGatedThreads, 0, on>>>(job);
  return launch_error();
}

const char* launch_norm(const NormJob& job, bool bf16, void* stream) {
  if (job.rows * job.width == 0) return nullptr;
  const auto grid = grid_of(job.rows);
  const auto on = static_cast<cudaStream_t>(stream);
  if (bf16) norm_kernel<uint16_t><<<grid, kNormThreads, kNormShared, on>>>(job);
  else norm_kernel<float><<<grid, kNormThreads, kNormShared, on>>>(job);
  return launch_error();
}

const char* launch_rotate(const RotateJob& job, bool bf16, void* stream) {
  const auto numbers = job.rows * job.heads * job.width;
  if (numbers == 0) return nullptr;
  const auto grid = grid_of((numbers + 16 * kRotateThreads - 1) / (16 * kRotateThreads));
  const auto on = static_cast<cudaStream_t>(stream);
  if (bf16) rotate_kernel<uint16_t><<<grid, kRotateThreads, 0, on>>>(job);
  else rotate_kernel<float><<<grid, kRotateThreads, 0, on>>>(job);
  return launch_error();
}

const char* launch_softmax_gradient(const SoftmaxJob& job, void* stream) {
  if (job.rows == 0) return nullptr;
  softmax_kernel<<<grid_of(job.rows), kSoftmaxThreads, kSoftmaxShared, static_cast<cudaStream_t>(stream)>>>(
      job);
  return launch_error();
}

const char* launch_adamw(const AdamwJob& job, void* stream) {
  if (job.chunk_count == 0) return nullptr;
  adamw_kernel<<<grid_of(job.chunk_count), kAdamwThreads, 4 * kAdamwThreads,
                 static_cast<cudaStream_t>(stream)>>>(job);
  return launch_error();
}

}  // namespace retort
