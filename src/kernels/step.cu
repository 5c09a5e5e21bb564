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
  return start(bf16 ? drop_kernel<uint16_t> : drop_kernel<float>, pieces_of(job.count, 8 * kDropoutThreads),
               kDropoutThreads, 0, job, stream);
}

const char* launch_gated(const GatedJob& job, bool bf16, void* stream) {
  return start(bf16 ? gated_kernel<uint16_t> : gated_kernel<float>, pieces_of(job.count, 8 * kGatedThreads),
               kGatedThreads, 0, job, stream);
}

const char* launch_norm(const NormJob& job, bool bf16, void* stream) {
  return start(bf16 ? norm_kernel<uint16_t> : norm_kernel<float>, job.width == 0 ? 0 : job.rows, kNormThreads,
               kNormShared, job, stream);
}

const char* launch_rotate(const RotateJob& job, bool bf16, void* stream) {
  return start(bf16 ? rotate_kernel<uint16_t> : rotate_kernel<float>,
               pieces_of(job.rows * job.heads * job.width, 16 * kRotateThreads), kRotateThreads, 0, job,
               stream);
}

const char* launch_softmax_gradient(const SoftmaxJob& job, void* stream) {
  return start(softmax_kernel, job.rows, kSoftmaxThreads, kSoftmaxShared, job, stream);
}

const char* launch_adamw(const AdamwJob& job, void* stream) {
  return start(adamw_kernel, job.chunk_count, kAdamwThreads, 4 * kAdamwThreads, job, stream);
}

}  // namespace retort
