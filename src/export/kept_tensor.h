// A tensor of a trained model and its place in the base: what is written there in the type that it has, dense
// numbers or codes of F8_E4M3 with their scales.
#pragma once
#include <cmath>
#include <optional>
#include <vector>

#include "export/merged.h"
#include "formats/weight_file.h"
#include "ops/weight.h"

namespace retort {

inline constexpr auto kKeepKey = "export.merged: keep";

// What rounding did to the update of a matrix, or of some of its rows.
struct RoundedUpdate {
  bool any = false;
  double lost = 0, size = 0, left = 0;  // |Q(W') - W'|^2, |W' - W|^2, <Q(W') - W, W' - W>
  void operator+=(const RoundedUpdate& other) {
    any = any || other.any;
    lost += other.lost, size += other.size, left += other.left;
  }
  double error() const { return size > 0 ? std::sqrt(lost / size) : 0; }
  double share_left() const { return size > 0 ? left / size : 1; }
};

// A tensor of the trained model and where the base has it.
struct KeptTensor {
  MergedTensor tensor;
  const TensorView* view;
  Weight base;                         // a matrix of F8_E4M3 with its scales; or
  const TensorView* scales = nullptr;  // nothing
  bool power_of_two = false;
  std::optional<float> new_scale = {};  // of a changed matrix that is one block, once all of it was looked at

  bool scaled() const { return scales != nullptr; }
  bool one_block() const { return scaled() && scales->elements() == 1; }
  int64_t chunk() const {  // whole rows of blocks; of a matrix that is one block some rows
    const auto rows = rows_per_chunk(tensor.row_length());
    return scaled() && !one_block() ? std::max<int64_t>(1, rows / base.scale_rows) * base.scale_rows : rows;
  }
  int64_t chunks() const { return (tensor.row_count() + chunk() - 1) / chunk(); }
};

// What rounding all of it gives: whether it was changed at all, and its new scales.
struct RoundedTensor {
  RoundedUpdate update;
  std::vector<float> scales;
};
// All rows, whose bytes are let go; a matrix that is one block keeps its new scale.
RoundedTensor round_tensor(KeptTensor& kept, int64_t threads);
// Rows of a tensor that round_tensor() was at, as the base's file has them.
Bytes encoded_rows(const KeptTensor& kept, int64_t first, int64_t count);
// Of any number of scales, as a tensor of `type` has them.
Bytes stored_scales(const std::vector<float>& scales, WeightType type);

}  // namespace retort
