// y = x W^T + bias + scaling * dropout(x) A^T B^T: the one place where a base matrix meets activations.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "ops/pass.h"
#include "ops/role.h"
#include "ops/weight.h"

namespace retort {

// LoRA (arXiv:2106.09685) and DoRA (arXiv:2402.09353) as a property of a linear layer. Trainables are fp32
// leaves.
struct LowRank {
  Tensor a;            // [rank, in]
  Tensor b;            // [out, rank]
  Tensor magnitude;    // [out] for DoRA, undefined otherwise
  double scaling = 1;  // alpha / rank, or alpha / sqrt(rank) (rsLoRA, arXiv:2312.03732)
  double dropout = 0;
};

struct Linear {
  std::string name;  // the checkpoint's: "model.layers.0.self_attn.q_proj"; what it says is in `place`
  Weight weight;
  Tensor bias;         // [out] or undefined
  Tensor int8_scales;  // [out], where the frozen base multiplies 8-bit integers in both directions, a frozen
                       // head in dX alone (`compute: int8`); else undefined
  std::optional<LowRank> adapter;
  TensorPlace place;
};

// Largest magnitude of each row / 127: what switches a layer to integers. Failure where the CPU cannot.
Tensor int8_row_scales(const Weight& weight);

// Several layers of one input, as one operation: their gradients of x are one sum.
std::vector<Tensor> linear_group(const Tensor& x, const std::vector<const Linear*>& layers, const Pass& pass);

// x [N,in] of pass.compute's type -> [N,out]. Frozen weights get no gradient; backward saves x (or x and x
// A^T) only.
Tensor linear(const Tensor& x, const Linear& layer, const Pass& pass);

}  // namespace retort
