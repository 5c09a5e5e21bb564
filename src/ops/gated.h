// The gated activation of GLU feed-forward layers (arXiv:2002.05202): activation(gate) * up.
#pragma once
#include "ops/pass.h"
#include "ops/row_loops.h"

namespace retort {

// gate, up [N,F] -> [N,F]. Saves its inputs.
Tensor gated(const Tensor& gate, const Tensor& up, Activation activation);
// The same, row n multiplied by weights[n] (fp32 [N]): a router's weight passes through the linear layer that
// follows.
Tensor weighted_gated(const Tensor& gate, const Tensor& up, const Tensor& weights, Activation activation);

}  // namespace retort
