#pragma once
#include <ATen/ATen.h>

#include <stdexcept>

#include "formats/weight_file.h"

namespace retort {

// An fp32 tensor of a golden.
inline at::Tensor tensor_of(const WeightFile& file, const std::string& name) {
  const auto* view = file.find(name);
  if (!view) throw std::runtime_error("golden without " + name);
  return at::from_blob(const_cast<std::byte*>(view->data.data()), view->shape, at::TensorOptions(at::kFloat))
      .clone();
}

}  // namespace retort
