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
  // What rotation_on() keeps for the next call, and it alone looks at.
  mutable Tensor there = {}, positions_of = {}, positions_there = {};
  mutable int64_t version_of = 0;
};

// A table on a device: fp32 [2, table.positions, half], cosines before sines, and positions int64 [N] as the
// rows of it. Both stay there for the next call: the table for all passes, positions for those of one pass.
struct RotationThere {
  Tensor angles, rows;
};
RotationThere rotation_on(at::Device device, const RotaryTable& table, const Tensor& positions);

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
