#pragma once
#include "ops/gemm_kernel.h"

namespace retort {
const GemmKernel& emulated_amx();  // gemm_amx_test.cpp
}
