// Two writers of 4-bit floats (E2M1) with a scale for each block: llm-compressor ("compressed-tensors") with
// MXFP4 (blocks of 32, scales that are powers of two) and NVFP4 (blocks of 16, scales of E4M3 and one number
// for the matrix), and NVIDIA's ModelOpt ("modelopt") with NVFP4. Which layers are so is what the file has
// tensors for; keys of how others round activations and caches change no weight.
#include "models/quantization_config.h"

namespace retort {
namespace {

using Method = FourBitConfig::Method;

void require_block(const HfConfig& section, int64_t size, bool may_be_missing) {
  const auto found = section.whole("group_size");
  if (found ? *found != size : !may_be_missing)
    refuse_quantization(section, "group_size", "expected " + std::to_string(size));
}

FourBitConfig read_compressed(const HfConfig& section, const Json& json, Method method) {
  refuse_unknown(
      section, json,
      {"quant_method", "config_groups", "format", "global_compression_ratio", "ignore", "kv_cache_scheme",
       "quantization_status", "version", "sparsity_config", "transform_config"});
  const auto weights = compressed_weights(section, json);
  const bool mxfp4 = method == Method::mxfp4;
  if (weights.whole("num_bits").value_or(0) != 4) refuse_quantization(weights, "num_bits", "expected 4");
  require_one_of(weights, "strategy", {mxfp4 ? "group" : "tensor_group"}, "");
  if (weights.find("actorder"))
    refuse_quantization(weights, "actorder", "is not known here, and changes which input is in which block");
  const FourBitConfig config{method, mxfp4 ? 32 : 16};
  require_block(weights, config.group_size, false);
  return config;
}

FourBitConfig read_modelopt(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json,
                 {"quant_method", "quant_algo", "config_groups", "ignore", "exclude_modules", "group_size",
                  "kv_cache_scheme", "kv_cache_quant_algo", "producer"});
  require_one_of(section, "quant_algo", {"NVFP4", "W4A16_NVFP4"}, "");
  const FourBitConfig config{Method::modelopt, 16};
  require_block(section, config.group_size, true);
  if (section.find("config_groups"))
    require_block(compressed_weights(section, json), config.group_size, true);
  return config;
}

}  // namespace

std::optional<FourBitConfig> read_e2m1(const HfConfig& section, const Json& json, const std::string& method) {
  if (method == "modelopt") return read_modelopt(section, json);
  const auto format = section.text("format").value_or("");
  for (const auto known : {Method::mxfp4, Method::nvfp4})
    if (format == name_of(known)) return read_compressed(section, json, known);
  return std::nullopt;
}

}  // namespace retort
