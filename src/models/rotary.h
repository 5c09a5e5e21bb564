// Rotation angles of a model: frequencies with their scaling, and tables of cos and sin that grow with the
// longest text.
#pragma once
#include <memory>
#include <mutex>
#include <vector>

#include "models/config.h"
#include "ops/rotate.h"

namespace retort {

// How many dimensions at the front of a head are rotated: 96 of 128 where `partial` is 0.75.
int64_t rotated_width(const RopeConfig& rope, int64_t head_dim);

// theta^(-2i/width) for i < width/2, width the rotated one of a head, rescaled. `length` matters for longrope
// alone: the long factors serve texts longer than the original context. Formulas: Llama 3's reference code,
// YaRN arXiv:2309.00071, LongRoPE arXiv:2402.13753.
std::vector<float> rotary_frequencies(const RopeConfig& rope, int64_t head_dim, int64_t context,
                                      int64_t length);
// What cos and sin are multiplied with; 1 but for yarn and longrope.
double rotary_attention_factor(const RopeConfig& rope, int64_t context);

class Rotary {
 public:
  Rotary(RopeConfig rope, int64_t head_dim, int64_t context);
  // A table that covers all of `positions` (int64 [N]). FormatError for a position beyond the context where
  // the scaling is dynamic. Thread-safe.
  std::shared_ptr<const RotaryTable> table(const Tensor& positions) const;

 private:
  RopeConfig rope_;
  int64_t head_dim_, context_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const RotaryTable>
      tables_[2];  // short and long texts (longrope); else the first alone
};

}  // namespace retort
