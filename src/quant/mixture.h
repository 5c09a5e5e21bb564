// Which type each tensor of a GGUF file gets: llama.cpp's mixtures ("Q4_K_M" spends more bits on the tensors
// that lose most), without an importance matrix and without overrides. Facts from llama-quant.cpp.
#pragma once
#include "quant/types.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

struct Mixture {
  std::string_view name;  // "Q4_K_M"
  int32_t file_type;      // general.file_type of the file
  WeightType main_type;
};

std::span<const Mixture> all_mixtures();
std::optional<Mixture> mixture_from_name(
    std::string_view name);  // case-insensitive; "Q4_K", "Q5_K", "Q3_K" mean _M

// The facts of a model that the rules ask for.
struct MixtureModel {
  std::string_view architecture;  // GGUF's: "llama"
  int64_t layers = 0;
  int64_t heads = 1, kv_heads = 1;
  int64_t experts = 0;     // 0 or 1: dense
  bool tied_head = false;  // no output.weight: token_embd.weight is the head
};

struct MixtureTensor {
  std::string_view name;       // GGUF's: "blk.3.ffn_down.weight"
  std::vector<int64_t> shape;  // row-major, the last entry is the row length (GGUF's ne[0])
};

// Whether any mixture would quantize it: at least 2 dimensions, a name ending in "weight", not a norm, router
// or other small tensor.
bool is_quantizable(const MixtureTensor& tensor);

// What the rules ask for, whether or not a row is a multiple of that type's block. A tensor that is not
// quantizable is F32.
WeightType preferred_type(const Mixture& mixture, const MixtureModel& model, const MixtureTensor& tensor);

// The type to store `tensor` in, fallbacks for ragged rows included.
WeightType choose_type(const Mixture& mixture, const MixtureModel& model, const MixtureTensor& tensor);

}  // namespace retort
