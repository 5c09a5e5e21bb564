#include "train/state_bytes.h"

#include <span>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/profile.h"

namespace retort {

NamedBytes bytes_of(const std::string& name, Tensor& tensor) {
  return {name,
          WeightType::f32,
          tensor.sizes().vec(),
          {static_cast<std::byte*>(tensor.mutable_data_ptr()), tensor.nbytes()}};
}

std::vector<NamedBytes> bytes_of(const std::vector<NamedTensor>& trainables) {
  std::vector<NamedBytes> all;
  for (const auto& trainable : trainables) all.push_back(bytes_of(trainable.name, *trainable.tensor));
  return all;
}

std::string weights_hash(const std::filesystem::path& checkpoint) {
  const auto file = checkpoint / "manifest.json";
  const auto json = read_json(file);
  const Json::json_pointer place("/files/weights.safetensors/sha256");
  if (!json.contains(place) || !json.at(place).is_string())
    corrupt(file.string(), "weights.safetensors", "has no sha256");
  return json.at(place).get<std::string>();
}

std::string batches_after(const std::string& before, const Samples& samples,
                          const std::vector<int64_t>& chosen) {
  const Span span({"hashes of batches", "stage"});
  Sha256 hash;
  hash.add(before);
  for (const auto index : chosen) {
    const auto sample = samples[static_cast<size_t>(index)];
    hash.add(std::as_bytes(std::span(&index, 1))).add(std::as_bytes(std::span(sample.tokens)));
  }
  return hash.hex();
}

}  // namespace retort
