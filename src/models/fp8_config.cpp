// Three writers of such folders: DeepSeek and transformers ("fp8"), llm-compressor ("compressed-tensors") and
// FBGEMM ("fbgemm_fp8"). In each a stored number is code times scale, and activations are rounded to 8 bits
// where the model is served; here they are not.
#include <cmath>

#include "models/quantization_config.h"

namespace retort {
namespace {

void take_block(const HfConfig& section, const char* key, Fp8Config& fp8) {
  const auto sizes = section.numbers(key);
  if (sizes.empty()) return;
  const auto whole = [](double size) { return size >= 1 && size <= 1 << 20 && size == std::floor(size); };
  if (sizes.size() != 2 || !whole(sizes[0]) || !whole(sizes[1]))
    section.fail(key, "expected two positive whole numbers: rows and columns of a block");
  fp8.block_rows = static_cast<int64_t>(sizes[0]), fp8.block_columns = static_cast<int64_t>(sizes[1]);
}

Fp8Config read_plain(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json,
                 {"quant_method", "fmt", "activation_scheme", "weight_block_size", "scale_fmt",
                  "modules_to_not_convert", "ignored_layers", "dequantize"});
  require_one_of(section, "fmt", {"e4m3"}, "e4m3");
  require_one_of(section, "activation_scheme", {"dynamic", "static"}, "dynamic");
  require_one_of(section, "scale_fmt", {"ue8m0", "float"}, "float");
  Fp8Config fp8;
  take_block(section, "weight_block_size", fp8);
  fp8.power_of_two = section.text("scale_fmt").value_or("") == "ue8m0";
  return fp8;
}

Fp8Config read_compressed(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json,
                 {"quant_method", "config_groups", "format", "global_compression_ratio", "ignore",
                  "quantization_status", "version", "sparsity_config", "transform_config"});
  require_one_of(
      section, "format",
      {"float-quantized", name_of(FourBitConfig::Method::mxfp4), name_of(FourBitConfig::Method::nvfp4)}, "");
  const auto weights = compressed_weights(section, json);
  if (weights.whole("num_bits").value_or(0) != 8) refuse_quantization(weights, "num_bits", "expected 8");
  require_one_of(weights, "strategy", {"tensor", "channel", "block"}, "");
  Fp8Config fp8;
  take_block(weights, "block_structure", fp8);
  return fp8;
}

}  // namespace

HfConfig compressed_weights(const HfConfig& section, const Json& json) {
  require_one_of(section, "quantization_status", {"compressed"}, "compressed");
  for (const char* more : {"sparsity_config", "transform_config"})
    if (const auto* value = section.find(more); value && !value->empty())
      refuse_quantization(section, more, "is not known here, and changes what the weights are");
  const auto groups = section.section("config_groups");
  if (!groups || json["config_groups"].size() != 1)
    refuse_quantization(section, "config_groups", "expected one group of layers");
  const auto name = json["config_groups"].begin().key();
  const auto group = groups->section(name);
  if (!group) refuse_quantization(*groups, name, "expected a section");
  const auto weights = group->section("weights");
  if (!weights) refuse_quantization(*group, "weights", "is missing");
  require_one_of(*weights, "type", {"float"}, "");
  if (!weights->truth("symmetric", true)) refuse_quantization(*weights, "symmetric", "expected true");
  return *weights;
}

Fp8Config read_fp8(const HfConfig& section, const Json& json, const std::string& method) {
  if (method == "fp8") return read_plain(section, json);
  if (method == "compressed-tensors") return read_compressed(section, json);
  refuse_unknown(section, json, {"quant_method", "activation_scale_ub", "modules_to_not_convert"});
  return {};
}

}  // namespace retort
