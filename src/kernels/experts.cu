// Tokens by expert and back.
#include "kernels/cuda_threads.h"
#include "kernels/launch.h"
#include "kernels/launch_cuda.h"

namespace retort {
namespace {

__global__ void __launch_bounds__(kExpertThreads) count_kernel(const SortJob job) {
  CudaThreads threads;
  count_slots(threads, job);
}
__global__ void __launch_bounds__(kExpertThreads) scan_kernel(const SortJob job) {
  CudaThreads threads;
  scan_counts(threads, job);
}
__global__ void __launch_bounds__(kExpertThreads) place_kernel(const SortJob job) {
  CudaThreads threads;
  place_slots(threads, job);
}

template <class Number> __global__ void __launch_bounds__(kExpertThreads) rows_kernel(const RowsJob job) {
  CudaThreads threads;
  if (job.x) rows_to_experts<Number>(threads, job);
  else sum_of_experts<Number>(threads, job);
}

}  // namespace

// One after the other on the stream: each reads what the one before it wrote.
const char* launch_sort(const SortJob& job, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  const auto grid = grid_of(job.tiles());
  count_kernel<<<grid, kExpertThreads, kSortShared, on>>>(job);
  scan_kernel<<<1, kExpertThreads, kScanShared, on>>>(job);
  place_kernel<<<grid, kExpertThreads, kSortShared, on>>>(job);
  return launch_error();
}

const char* launch_rows(const RowsJob& job, bool bf16, void* stream) {
  if (job.tokens * job.each * job.width == 0) return nullptr;
  const auto grid = grid_of(job.x ? job.tokens * job.each : job.tokens);
  const auto on = static_cast<cudaStream_t>(stream);
  if (bf16) rows_kernel<uint16_t><<<grid, kExpertThreads, 0, on>>>(job);
  else rows_kernel<float><<<grid, kExpertThreads, 0, on>>>(job);
  return launch_error();
}

}  // namespace retort
