// Gradients become weights: fp32 weights and states that live as long as the run, one fused pass a step over
// all of them.
#pragma once
#include "models/model.h"
#include "train/checkpoint.h"
#include "train/train_spec.h"

namespace retort {

class Optimizer {
 public:
  // The trainables are contiguous fp32 leaves, changed in place.
  Optimizer(const OptimizerSpec& spec, const std::vector<NamedTensor>& trainables, int64_t threads);

  // `sums` as StepSums.gradients; `share` multiplies them. False when a weight or moment is not finite
  // afterwards. A trainable without a gradient counts as one with a gradient of zero.
  bool update(const std::vector<Tensor>& sums, double share, double learning_rate);

  // Moments under "moment_1.<trainable>", as a checkpoint holds them besides the weights.
  std::vector<NamedBytes> states();
  int64_t updates = 0;  // made so far: bias correction counts these, not steps that were skipped

 private:
  struct Slot {
    std::string name;
    Tensor* weights = nullptr;
    int64_t count = 0;
    bool decayed = false;   // a matrix
    double rate_ratio = 1;  // LoRA+ (arXiv:2402.12354)
    bool eight_bit = false;
    std::vector<float> first, second;  // moments; or, in 8 bits, the absmax of their blocks
    std::vector<uint8_t> first_codes, second_codes;
  };
  struct Chunk {
    size_t slot;
    int64_t begin, count;
  };
  bool update_chunk(const Chunk& chunk, const float* sums, double share, double learning_rate);

  OptimizerSpec spec_;
  int64_t threads_;
  std::vector<Slot> slots_;
  std::vector<Chunk> chunks_;
};

// L2 norm over all tensors, summed in a fixed order; not finite when any element is not.
double gradient_norm(const std::vector<Tensor>& sums, int64_t threads);

// What torch.nn.utils.clip_grad_norm_ multiplies by; 1 when limit is 0.
double clip_share(double norm, double limit);

}  // namespace retort
