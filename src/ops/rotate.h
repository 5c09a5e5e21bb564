// Rotary position embedding (arXiv:2104.09864) in the half-split layout of Hugging Face checkpoints.
#pragma once
#include <memory>

#include "ops/pass.h"

namespace retort {

// cos and sin of position * frequency, times the attention factor of the scaling (1 for most).
struct RotaryTable {
  int64_t positions = 0, half = 0;  // half the rotated width
  std::vector<float> cosine, sine;  // [positions, half]
};

// x [N,H,D] -> [N,H,D]: dimensions i and i + half of each head are rotated by the angle of (positions[n], i);
// dimensions past 2 * half stay. Saves nothing but the table.
Tensor rotate(const Tensor& x, const Tensor& positions, const std::shared_ptr<const RotaryTable>& table);

}  // namespace retort
