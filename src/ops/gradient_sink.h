// Where the gradients of whole matrices go as backward finds them. In the graph they would all wait for its
// end, a set for every forest at work.
#pragma once
#include <ATen/ATen.h>

namespace retort {

// The gradient of an embedding as its backward knows it: `factor` times one row for each token of a pass. A
// matrix of it is mostly zeros, and where the head is the same matrix, the graph would add the two into a
// third.
struct RowGradient {
  at::Tensor matrix;  // the leaf that it is of, [V,E]; undefined = none
  at::Tensor tokens;  // int64 [N]
  at::Tensor rows;    // [N,E]
  double factor = 1;

  void add_to(at::Tensor& sum) const;  // fp32 [V,E], made of zeros when it is not there
};

// The gradient of a head's matrix as its loss knows it: `factor` times dz^T x. Where a loss asks for few
// rows, these are smaller than their product, which is added where the sum lies.
struct ProductGradient {
  at::Tensor matrix;  // the leaf that it is of, [V,E]
  at::Tensor dz, x;   // [n,V] and [n,E] of one type, fp32 or bf16, and on one device
  double factor = 1;

  void add_to(at::Tensor& sum) const;  // fp32 [V,E], made when it is not there
};

// Of one pass, which has one backward; called by its thread.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // The whole gradient that this pass has for a leaf; std::logic_error for a second one. False: not a leaf of
  // this sink, the graph shall have it.
  virtual bool take(const at::Tensor& leaf, at::Tensor gradient) = 0;
  virtual bool take_rows(RowGradient gradient) = 0;
  virtual bool take_product(ProductGradient gradient) = 0;  // one for each loss of the pass
};

}  // namespace retort
