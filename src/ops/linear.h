// y = x W^T + bias + scaling * dropout(x) A^T B^T: the one place where a base matrix meets activations.
#pragma once
#include <memory>
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

// Rows of a matrix that are trained alone: each takes the place of the matrix's own (PEFT's
// trainable_token_indices). The matrix below stays as it is.
struct TrainedRows {
  std::vector<int64_t> ids;  // rising
  Tensor values;             // fp32 leaf [ids, in]

  // Where the row stands in `values`; -1: it is the matrix's own.
  int64_t find(int64_t id) const;
};

struct Linear;

// The frozen matrix of a layer: what its products need of it.
struct BaseMatrix {
  Weight weight;
  Tensor int8_scales;
};

// Where matrices are that are not kept in memory.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Stays as long as the caller keeps it. Called by any thread; throws what reading the file throws.
  virtual BaseMatrix take(const Linear& layer) = 0;
};

struct Linear {
  std::string name;    // the checkpoint's: "model.layers.0.self_attn.q_proj"; what it says is in `place`
  Weight weight;       // absent where there is a `source`
  Tensor bias;         // [out] or undefined
  Tensor int8_scales;  // [out], where the frozen base multiplies 8-bit integers in both directions, a frozen
                       // head in dX alone (`compute: int8`); else undefined
  std::optional<LowRank> adapter;
  TensorPlace place;
  std::shared_ptr<WeightSource> source = nullptr;  // of a weight that is not kept in memory
  std::optional<TrainedRows> rows = {};            // of the embedding and the head alone
  std::shared_ptr<DeviceCopies> copies = std::make_shared<DeviceCopies>();  // of the bias
};

// The layer's own, or what its source has. Whoever needs numbers of a linear layer inside the stack asks
// here.
BaseMatrix base_matrix(const Linear& layer);

// Largest magnitude of each row / 127: what switches a layer to integers. Failure where the CPU cannot.
Tensor int8_row_scales(const Weight& weight);

// Several layers of one input, as one operation: their gradients of x are one sum.
std::vector<Tensor> linear_group(const Tensor& x, const std::vector<const Linear*>& layers, const Pass& pass);

// x [N,in] of pass.compute's type -> [N,out]. Frozen weights get no gradient; backward saves x (or x and x
// A^T) only. Trained rows are computed here alone: what has some is in no group. Where gradients alone are
// wanted, the product is left out and the value is zeros, but for DoRA, whose gradients need it.
Tensor linear(const Tensor& x, const Linear& layer, const Pass& pass, Wanted wanted = Wanted::value);

}  // namespace retort
