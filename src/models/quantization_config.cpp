#include "models/quantization_config.h"

namespace retort {

void refuse_quantization(const HfConfig& section, const std::string& key, const std::string& what) {
  section.fail(key, what + "; use the original weights or a .gguf file");
}

void refuse_unknown(const HfConfig& section, const Json& json, const std::set<std::string>& known) {
  for (const auto& [key, value] : json.items())
    if (!known.contains(key) && !value.is_null())
      refuse_quantization(section, printable(key),
                          "is not known here, and might change what the weights are");
}

void require_one_of(const HfConfig& section, const char* key, const std::set<std::string>& words,
                    const std::string& otherwise) {
  const auto found = section.text(key).value_or(otherwise);
  if (words.contains(found)) return;
  std::string known;
  for (const auto& word : words) known += (known.empty() ? "'" : "', '") + word;
  refuse_quantization(section, key, "found '" + printable(found) + "', expected " + known + "'");
}

void read_quantization(const HfConfig& config, ModelConfig& model) {
  const auto section = config.section("quantization_config");
  if (!section) return;
  const auto& json = *config.find("quantization_config");
  const auto method = section->text("quant_method").value_or("");
  using Method = FourBitConfig::Method;
  for (const auto four_bit : {Method::bitsandbytes, Method::gptq, Method::awq})
    if (method == name_of(four_bit)) model.four_bit = read_four_bit(*section, json, four_bit);
  if (method == "compressed-tensors" || method == "modelopt")
    model.four_bit = read_e2m1(*section, json, method);
  if (model.four_bit) return;
  if (method == "mxfp4")
    refuse_quantization(
        *section, "quant_method",
        "'mxfp4' is the layout of gpt-oss (one tensor of blocks for all experts of a layer), a "
        "family that is not read here");
  if (method != "fp8" && method != "compressed-tensors" && method != "fbgemm_fp8")
    refuse_quantization(*section, "quant_method",
                        "'" + printable(method) +
                            "' is not read here; known: fp8, compressed-tensors, fbgemm_fp8, bitsandbytes, "
                            "gptq, awq, modelopt");
  model.fp8 = read_fp8(*section, json, method);
}

}  // namespace retort
