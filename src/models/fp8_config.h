// quantization_config of folders whose matrices are F8_E4M3 with scales beside them.
#pragma once
#include "models/hf_config.h"

namespace retort {

// nullopt where config.json has no quantization_config. FormatError names every key that says something which
// is not computed here.
std::optional<Fp8Config> read_fp8(const HfConfig& config);

}  // namespace retort
