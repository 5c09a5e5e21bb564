#pragma once
#include <vector>

#include "ops/gemm.h"

namespace retort {

const GemmKernel& emulated_amx();  // gemm_amx_test.cpp

// Those of this machine, and the one on tiles in software.
inline std::vector<const GemmKernel*> every_kernel() {
  std::vector<const GemmKernel*> all(gemm_kernels().begin(), gemm_kernels().end());
  all.push_back(&emulated_amx());
  return all;
}

}  // namespace retort
