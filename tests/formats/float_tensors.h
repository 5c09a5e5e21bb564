// Tensors of fp32 to be written into the files of adapters.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "formats/weight_file.h"

namespace retort {

inline const std::vector<float> kNumbers(64, 0.5f);

inline TensorSource floats(std::string name, std::vector<int64_t> shape) {
  size_t count = 1;
  for (const auto dim : shape) count *= static_cast<size_t>(dim);
  return tensor_source(std::move(name), WeightType::f32, std::move(shape),
                       std::as_bytes(std::span(kNumbers).first(count)));
}

}  // namespace retort
