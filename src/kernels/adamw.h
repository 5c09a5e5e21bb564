// AdamW's arithmetic for one number (arXiv:1711.05101, Algorithm 2, in torch.optim.AdamW's order of
// operations), which the CPU's loop (train/update_loops.cpp) and the kernel (adamw_body.h) share.
#pragma once
#include <cmath>
#include <cstdint>

#include "base/half.h"

namespace retort {

// `share` multiplies every gradient on its way (1 / the step's weight, and clipping).
struct UpdateScalars {
  float share = 1;
  float keep = 1;                // 1 - learning rate * weight decay: what decoupled decay leaves of a weight
  float rate = 0;                // learning rate; adamw: over 1 - beta_1^t
  float beta_1 = 0, beta_2 = 0;  // sgd: beta_1 is the momentum
  float rest_1 = 1, rest_2 = 1;  // 1 - beta, rounded once from double
  float second_scale = 1;        // adamw: 1 / sqrt(1 - beta_2^t)
  float epsilon = 0;
  bool first = false;  // sgd: the first update fills the momentum with the gradient
};

struct AdamwNumber {
  float weight, first, second;
};

HOST_DEVICE inline AdamwNumber adamw_number(const AdamwNumber& old, float sum, const UpdateScalars& s) {
  const float gradient = sum * s.share;
  const float m = old.first + s.rest_1 * (gradient - old.first);
  const float v = old.second * s.beta_2 + s.rest_2 * gradient * gradient;
  return {old.weight * s.keep - s.rate * (m / (std::sqrt(v) * s.second_scale + s.epsilon)), m, v};
}

}  // namespace retort
