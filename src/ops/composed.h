// The composed form of the operations: each of them once more, out of LibTorch calls alone, for tensors
// wherever they are. It is what computes on a device, and the readable statement of what the kernels of the
// CPU compute, against which tests hold them.
#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "ops/weight.h"

namespace retort {

using at::Tensor;

// Whether an operation on x takes its composed form: x is not in the CPU's memory, or the environment says
// RETORT_COMPOSED=1 (read once; for tests), or a ComposedScope does. A pass computes where its tokens are;
// lists (blocks, rows of a cache, targets) stay in the CPU's memory.
bool composed(const Tensor& x);

// While it lives, operations of the whole process take their composed form, or the CPU's. For tests.
class ComposedScope {
 public:
  explicit ComposedScope(bool on);
  ~ComposedScope();
  ComposedScope(const ComposedScope&) = delete;
  ComposedScope& operator=(const ComposedScope&) = delete;

 private:
  bool before_;
};

// A list as an int64 tensor on x's device.
template <class Number> Tensor list_on(const Tensor& x, const std::vector<Number>& list) {
  return at::tensor(std::vector<int64_t>(list.begin(), list.end()), at::TensorOptions(at::kLong))
      .to(x.device());
}

// Rows [first, first + count) of a matrix of any format in x's type and on its device, until this thread's
// next call: of the copy that stays there, or where there is no room for one of a copy of these rows.
Tensor widened_on(const Tensor& x, const Weight& weight, int64_t first, int64_t count);

// fp32: a b, whose sums are not rounded to a's type. Only a GPU's product of bf16 can leave them as they are.
Tensor wide_product(const Tensor& a, const Tensor& b);
// fp32 [n,m]: a^T b of a [N,n] and b [N,m].
Tensor sum_over_rows(const Tensor& a, const Tensor& b);

}  // namespace retort
