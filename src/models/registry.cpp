#include "base/error.h"
#include "models/families.h"

namespace retort {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      kLlama,      kMistral,     kQwen2,   kQwen3,       kGemma2,  kGemma3,     kPhi3,
      kQwen3Moe,   kMixtral,     kSmolLm3, kGranite,     kOlmo2,   kOlmo3,      kDeepseekV2,
      kDeepseekV3, kDeepseekV32, kGlm4,    kGlm4MoeLite, kSeedOss, kMinistral3, kMistral4};
  return table;
}

const Family& family_of(const ModelConfig& config) {
  for (const auto& family : families())
    if (config.family == family.name) return family;
  throw FormatError(
      fmt::format("unknown model family '{}'; known: {}", printable(config.family), known_families()));
}

std::string known_families() {
  std::string names;
  for (const auto& family : families())
    for (const std::string name : {family.model_type, family.other_model_type})
      if (!name.empty()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

std::unique_ptr<Model> build_shape(const ModelConfig& config) {
  return family_of(config).build(Parts(config));
}

std::unique_ptr<Model> build_model(const ModelConfig& config,
                                   const std::function<Linear(const TensorPlace& place)>& take_linear,
                                   const std::function<Tensor(const TensorPlace& place)>& take_vector,
                                   const std::function<Weight(const TensorPlace& place)>& take_matrix) {
  return family_of(config).build(Parts(config, take_linear, take_vector, take_matrix));
}

}  // namespace retort
