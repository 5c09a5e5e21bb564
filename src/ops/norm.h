// RMSNorm, arXiv:1910.07467: x * (mean(x^2) + epsilon)^-1/2 * (offset + w), in fp32 whatever x is.
#pragma once
#include "ops/device_copies.h"
#include "ops/pass.h"
#include "ops/role.h"

namespace retort {

struct Norm {
  Tensor weight;  // fp32 [E]
  double epsilon = 1e-5;
  double offset = 0;  // 1 for Gemma, whose checkpoints store w - 1
  TensorPlace place;
  std::shared_ptr<DeviceCopies> copies = std::make_shared<DeviceCopies>();
};

// x [..., E], normalised over its last dimension; the result has x's type. Saves x and one number a row.
Tensor rms_norm(const Tensor& x, const Norm& norm);

// A residual addition and the norm that follows it, in one pass each way: sum = x + delta, normed =
// rms_norm(sum).
struct NormedSum {
  Tensor sum, normed;
};
NormedSum add_rms_norm(const Tensor& x, const Tensor& delta, const Norm& norm);

}  // namespace retort
