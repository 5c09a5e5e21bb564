// What a head learns: its leaves, and where it has neither adapter nor bias the gradient of its matrix.
#pragma once
#include <optional>

#include "ops/differentiable.h"
#include "ops/gradient_sink.h"
#include "ops/linear.h"

namespace retort {

std::vector<Tensor> leaves_of(const Linear& layer);
inline bool is_plain(const Linear& layer) { return !layer.adapter && !layer.rows && !layer.bias.defined(); }

// Rows whose logits, of `type`, one thread holds at a time: 32 MiB of them, 341 of 49,152 words in bf16.
int64_t rows_at_once(const Weight& weight, at::ScalarType type);

// For logits z = x W^T: writes dz W to dx [n,E]; dz [n,V], both of one type.
void head_input_gradient(const Weight& weight, const Tensor& dz, Tensor dx);

// The gradient of the matrix over chunks of rows. What one chunk has is kept for the sink as its factors,
// where they are smaller than their product; else the products are summed here.
class HeadMatrixGradient {
 public:
  // `rows` of all chunks, whose elements are of `type`.
  HeadMatrixGradient(const Weight& weight, int64_t rows, at::ScalarType type, const GradientSink* sink);
  void add(const Tensor& dz, const Tensor& x);
  // `factor` times it; undefined where the sink has taken it.
  Tensor give(double factor, GradientSink* sink) const;

 private:
  ProductGradient product_;
  Tensor sum_;
  bool kept_;
};

// What asked rows cost, and the gradients that are taken while their logits exist: backward only scales them.
struct HeadCost {
  double nats = 0;
  Tensor gradient;                              // of the asked rows [R,E]
  Tensors leaf_gradients;                       // of leaves_of(head), unless
  std::optional<HeadMatrixGradient> of_matrix;  // the matrix is the only one

  // Of {hidden [n,E], leaves...} for `factor` as the gradient of nats; `index` [R] names the asked rows. n =
  // 0: hidden wants none.
  Tensors gradients(double factor, int64_t n, const Tensor& index, size_t leaves, GradientSink* sink) const;
};

}  // namespace retort
