// The gated activation of GLU feed-forward layers (arXiv:2002.05202): activation(gate) * up.
#pragma once
#include "ops/pass.h"
#include "ops/row_loops.h"

namespace retort {

// gate, up [N,F] -> [N,F]. Saves its two inputs.
Tensor gated(const Tensor& gate, const Tensor& up, Activation activation);

}  // namespace retort
