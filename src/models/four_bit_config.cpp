// quantization_config of bitsandbytes, GPTQ and AWQ. Which matrices are quantized is what the file has
// tensors for; keys that list them (llm_int8_skip_modules, modules_to_not_convert,
// modules_in_block_to_quantize, lm_head) say the same again. Keys of how the codes were found, and of how
// others compute with them, change no weight.
#include <algorithm>

#include "base/letters.h"
#include "models/quantization_config.h"

namespace retort {
namespace {

using Method = FourBitConfig::Method;

std::string lower_text(const HfConfig& section, const char* key, const std::string& otherwise) {
  return lower_case(section.text(key).value_or(otherwise));
}

// What writers of GPTQ and AWQ note down: AutoGPTQ, GPTQModel, AutoAWQ, transformers.
std::set<std::string> with_notes(std::set<std::string> keys) {
  for (const char* note : {"quant_method",
                           "method",
                           "bits",
                           "group_size",
                           "desc_act",
                           "sym",
                           "lm_head",
                           "dynamic",
                           "pack_dtype",
                           "format",
                           "checkpoint_format",
                           "backend",
                           "meta",
                           "quantizer",
                           "tokenizer",
                           "dataset",
                           "damp_percent",
                           "damp_auto_increment",
                           "true_sequential",
                           "static_groups",
                           "act_group_aware",
                           "mse",
                           "gptaq",
                           "foem",
                           "hessian",
                           "fallback",
                           "failsafe",
                           "model_seqlen",
                           "block_name_to_quantize",
                           "module_name_preceding_first_block",
                           "modules_in_block_to_quantize",
                           "modules_to_not_convert",
                           "batch_size",
                           "pad_token_id",
                           "max_input_length",
                           "cache_block_outputs",
                           "use_cuda_fp16",
                           "use_exllama",
                           "disable_exllama",
                           "exllama_config",
                           "model_name_or_path",
                           "model_file_base_name",
                           "offload_to_disk",
                           "offload_to_disk_path",
                           "pack_impl",
                           "device",
                           "true_sequential"})
    keys.insert(note);
  return keys;
}

FourBitConfig read_bitsandbytes(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json,
                 {"quant_method", "load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit",
                  "llm_int8_threshold", "llm_int8_skip_modules", "llm_int8_enable_fp32_cpu_offload",
                  "llm_int8_has_fp16_weight", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
                  "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "modules_to_not_convert"});
  for (const char* key : {"load_in_8bit", "_load_in_8bit"})
    if (section.truth(key, false))
      refuse_quantization(section, key, "is true: bitsandbytes' 8-bit weights are not read here");
  if (!section.truth("load_in_4bit", section.truth("_load_in_4bit", false)))
    refuse_quantization(section, "load_in_4bit", "expected true");
  require_one_of(section, "bnb_4bit_quant_type", {"nf4", "fp4"}, "fp4");
  require_one_of(section, "bnb_4bit_quant_storage",
                 {"uint8", "int8", "float16", "bfloat16", "float32", "float64"}, "uint8");
  return {Method::bitsandbytes};
}

// What GPTQ and AWQ have in common.
FourBitConfig read_groups(const HfConfig& section, Method method) {
  if (section.whole("bits").value_or(method == Method::awq ? 4 : 0) != 4)
    refuse_quantization(section, "bits", "expected 4");
  const auto* size = section.find("group_size");
  if (size && !(size->is_number_integer() &&
                (*size == -1 || (*size >= 2 && *size <= 1 << 20 && size->get<int64_t>() % 2 == 0))))
    section.fail("group_size", "expected -1 or an even whole number from 2");
  const auto group_size = size ? size->get<int64_t>() : 128;
  if (const auto* dynamic = section.find("dynamic")) {
    if (!dynamic->is_object()) section.fail("dynamic", "expected a section");
    for (const auto& [rule, settings] : dynamic->items())
      if (!rule.starts_with("-:"))  // which names modules that are not quantized
        refuse_quantization(
            section, "dynamic",
            "'" + printable(rule) + "' gives some layers other settings, which is not known here");
  }
  require_one_of(section, "pack_dtype", {"int32"}, "int32");
  require_one_of(section, "method", {name_of(method)}, name_of(method));
  FourBitConfig four_bit{method, std::max<int64_t>(0, group_size)};
  four_bit.any_order = section.truth("desc_act", false);
  return four_bit;
}

FourBitConfig read_gptq(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json, with_notes({"is_marlin_format"}));
  auto four_bit = read_groups(section, Method::gptq);
  if (section.truth("is_marlin_format", false))
    refuse_quantization(section, "is_marlin_format", "is true: weights that were repacked are not read here");
  const auto named = section.find("checkpoint_format") ? "checkpoint_format" : "format";
  const auto format = lower_text(section, named, "gptq");
  if (format != "gptq" && format != "gptq_v2")
    refuse_quantization(section, named, "found '" + printable(format) + "', expected 'gptq', 'gptq_v2'");
  if (const auto other = lower_text(section, "format", format); other != format)
    refuse_quantization(section, "format",
                        "is '" + printable(other) + "', and checkpoint_format is '" + format + "'");
  four_bit.zeros_less_one = format == "gptq";
  return four_bit;
}

FourBitConfig read_awq(const HfConfig& section, const Json& json) {
  refuse_unknown(section, json,
                 with_notes({"version", "zero_point", "do_fuse", "fuse_max_seq_len", "modules_to_fuse"}));
  auto four_bit = read_groups(section, Method::awq);
  const auto named = section.find("version") ? "version" : "format";
  const auto version = lower_text(section, named, "gemm");
  if (version != "gemm")
    refuse_quantization(section, named, "found '" + printable(version) + "', expected 'gemm'");
  if (lower_text(section, "backend", "auto") == "llm-awq")
    refuse_quantization(section, "backend", "'llm-awq' packs weights in an order that is not known here");
  if (!section.truth("zero_point", true))
    refuse_quantization(section, "zero_point", "is false: weights without zero points are not read here");
  if (four_bit.any_order) refuse_quantization(section, "desc_act", "expected false");
  return four_bit;
}

}  // namespace

const char* name_of(FourBitConfig::Method method) {
  switch (method) {
    case Method::gptq: return "gptq";
    case Method::awq: return "awq";
    case Method::mxfp4: return "mxfp4-pack-quantized";
    case Method::nvfp4: return "nvfp4-pack-quantized";
    case Method::modelopt: return "modelopt";
    default: return "bitsandbytes";
  }
}

FourBitConfig read_four_bit(const HfConfig& section, const Json& json, Method method) {
  switch (method) {
    case Method::gptq: return read_gptq(section, json);
    case Method::awq: return read_awq(section, json);
    default: return read_bitsandbytes(section, json);
  }
}

}  // namespace retort
