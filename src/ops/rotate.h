// Rotary position embedding (arXiv:2104.09864) in the half-split layout of most Hugging Face checkpoints, and
// in the interleaved one of the paper.
#pragma once
#include <memory>

#include "ops/pass.h"

namespace retort {

// cos and sin of position * frequency, times the attention factor of the scaling (1 for most).
struct RotaryTable {
  int64_t positions = 0, half = 0;  // half the rotated width
  std::vector<float> cosine, sine;  // [positions, half]
  // fp32 [2, positions, half], both on the device that asked for them last; rotated_on() alone looks at it.
  mutable Tensor there = {};
};

// Which dimensions of a head turn: 2 * half from `first` on, in pairs (i, i + half), or (2i, 2i + 1) where
// they are interleaved.
struct RotatedPart {
  int64_t first = 0;
  bool interleaved = false;
};

// x [N,H,D] -> [N,H,D]: pair i of each head is rotated by the angle of (positions[n], i), and stays where it
// is; other dimensions stay as they are. Saves nothing but the table.
Tensor rotate(const Tensor& x, const Tensor& positions, const std::shared_ptr<const RotaryTable>& table,
              const RotatedPart& part = {});

}  // namespace retort
