// quantization_config of a folder's config.json: how its matrices are stored where they are not of a dense
// type. Whoever reads a method of it names every key that it does not understand.
#pragma once
#include <set>

#include "models/hf_config.h"

namespace retort {

// Fills what the section says, `fp8` or `four_bit`; nothing where there is none. FormatError names every key
// that says something which is not computed here.
void read_quantization(const HfConfig& config, ModelConfig& model);

Fp8Config read_fp8(const HfConfig& section, const Json& json, const std::string& method);
// The one group of layers of compressed-tensors; what is known of the sections around it is checked.
HfConfig compressed_weights(const HfConfig& section, const Json& json);
// MXFP4 and NVFP4; nullopt: another format of compressed-tensors.
std::optional<FourBitConfig> read_e2m1(const HfConfig& section, const Json& json, const std::string& method);
FourBitConfig read_four_bit(const HfConfig& section, const Json& json, FourBitConfig::Method method);

[[noreturn]] void refuse_quantization(const HfConfig& section, const std::string& key,
                                      const std::string& what);
// A key that is neither here nor null.
void refuse_unknown(const HfConfig& section, const Json& json, const std::set<std::string>& known);
void require_one_of(const HfConfig& section, const char* key, const std::set<std::string>& words,
                    const std::string& otherwise);

}  // namespace retort
