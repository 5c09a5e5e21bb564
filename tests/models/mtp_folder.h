// A folder with the layer that predicts the token after the next, made of a golden model.
#pragma once
#include <fmt/format.h>

#include "base/files.h"
#include "base/json.h"
#include "formats/weight_file.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {

// The golden's tensors, its last layer's once more behind it, copies of embedding and head, and random ones
// that join a token with the hidden state in front of it.
inline std::string mtp_folder(const std::filesystem::path& target, const std::string& family) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden/models" / family;
  const auto original = open_safetensors_folder(golden);
  auto config = read_json(golden / "config.json");
  const auto layers = config["num_hidden_layers"].get<int64_t>(),
             width = config["hidden_size"].get<int64_t>();
  const auto last = fmt::format("model.layers.{}.", layers - 1),
             behind = fmt::format("model.layers.{}.", layers);
  std::vector<TensorSource> tensors;
  const auto copy = [&](const TensorView& tensor, const std::string& name) {
    tensors.push_back(tensor_source(name, tensor.type, tensor.shape, tensor.data));
  };
  for (const auto& tensor : original.tensors) {
    copy(tensor, tensor.name);
    if (tensor.name.starts_with(last)) copy(tensor, behind + tensor.name.substr(last.size()));
    if (tensor.name == "model.embed_tokens.weight") copy(tensor, behind + "embed_tokens.weight");
    if (tensor.name == "lm_head.weight") copy(tensor, behind + "shared_head.head.weight");
  }
  std::vector<Tensor> drawn;
  const auto add = [&](const std::string& name, const Tensor& values) {
    drawn.push_back(values);
    tensors.push_back(tensor_source(
        behind + name, WeightType::f32, values.sizes().vec(),
        std::as_bytes(std::span(values.const_data_ptr<float>(), static_cast<size_t>(values.numel())))));
  };
  add("enorm.weight", 1 + 0.3 * random({width}, 11));
  add("hnorm.weight", 1 + 0.3 * random({width}, 12));
  add("eh_proj.weight", 0.2 * random({width, 2 * width}, 13));
  add("shared_head.norm.weight", 1 + 0.3 * random({width}, 14));
  std::filesystem::create_directories(target.parent_path());
  write_safetensors_folder(target, tensors, 1 << 30);
  config["num_nextn_predict_layers"] = 1;
  write_text(target / "config.json", config.dump(2));
  return target.string();
}

}  // namespace retort
