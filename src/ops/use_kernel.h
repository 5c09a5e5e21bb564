// Products with another kernel than the one that is chosen for this machine: tests run every kernel through
// what is built on products. A whole program does so with RETORT_KERNEL=avx512 (a name of gemm_kernels()).
#pragma once
#include "ops/gemm_kernel.h"

namespace retort {

// As long as it lives, in all threads: products of bf16 activations, and of fp32 ones where the kernel's
// operands are fp32.
class UseKernel {
 public:
  explicit UseKernel(const GemmKernel& kernel);
  ~UseKernel();
  UseKernel(const UseKernel&) = delete;
  UseKernel& operator=(const UseKernel&) = delete;

 private:
  const GemmKernel* before_;
};

}  // namespace retort
