// Whether two configurations stand for the same arithmetic.
#pragma once
#include <optional>
#include <string>

#include "models/config.h"

namespace retort {

// What a file holds of a model, against the model that was written: the first number of the arithmetic that
// differs, as "attention windows: 64 in layers 0 to 3 was written, none reads back". Names (family,
// architecture) and ids of special tokens are no arithmetic. Real numbers may differ by 1e-5 of the larger,
// since GGUF stores fp32; nullopt when nothing differs.
std::optional<std::string> what_reads_back_otherwise(const ModelConfig& written, const ModelConfig& read);

}  // namespace retort
