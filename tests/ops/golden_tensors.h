// Named fp32 tensors of a safetensors golden. The tests of ops/ cannot use formats/, which stands on the same
// row, so this reads the two parts of the format that our own goldens have.
#pragma once
#include <ATen/ATen.h>

#include "base/files.h"
#include "base/json.h"
#include "where.h"  // tests

namespace retort {

class GoldenTensors {
 public:
  explicit GoldenTensors(const std::string& name)
      : text_(read_text(std::string(source_dir()) + "/tests/golden/ops/" + name)) {
    uint64_t length = 0;
    std::copy_n(text_.data(), 8, reinterpret_cast<char*>(&length));
    header_ = parse_json(std::string_view(text_).substr(8, length), name);
    begin_ = 8 + length;
  }
  at::Tensor operator()(const std::string& name) const {
    const auto& entry = header_.at(name);
    const auto shape = entry.at("shape").get<std::vector<int64_t>>();
    auto* data = const_cast<char*>(text_.data() + begin_ + entry.at("data_offsets").at(0).get<size_t>());
    return at::from_blob(data, shape, at::TensorOptions(at::kFloat)).clone();
  }

 private:
  std::string text_;
  Json header_;
  size_t begin_ = 0;
};

}  // namespace retort
