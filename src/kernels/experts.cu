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
  const auto tiles = job.tiles();
  if (const auto* refused = start(count_kernel, tiles, kExpertThreads, kSortShared, job, stream))
    return refused;
  if (const auto* refused = start(scan_kernel, 1, kExpertThreads, kScanShared, job, stream)) return refused;
  return start(place_kernel, tiles, kExpertThreads, kSortShared, job, stream);
}

const char* launch_rows(const RowsJob& job, bool bf16, void* stream) {
  if (job.each * job.width == 0) return nullptr;
  return start(bf16 ? rows_kernel<uint16_t> : rows_kernel<float>, job.x ? job.tokens * job.each : job.tokens,
               kExpertThreads, 0, job, stream);
}

}  // namespace retort
