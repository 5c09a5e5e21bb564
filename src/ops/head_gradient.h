// What a head learns: its leaves, and where it has neither adapter nor bias the gradient of its matrix, summed chunk by chunk where it lies.
#pragma once
#include "ops/linear.h"

namespace retort {

std::vector<Tensor> leaves_of(const Linear& layer);
inline bool is_plain(const Linear& layer) { return !layer.adapter && !layer.bias.defined(); }

// For logits z = x W^T of a chunk, x [n,E], and dz [n,V]: writes dz W to dx [n,E], and dz^T x to `sum` [V,E] fp32, which is made when it is not
// there and added to when it is.
void add_head_gradients(const Weight& weight, const Tensor& x, const Tensor& dz, Tensor dx, Tensor& sum);

}  // namespace retort
