// Adapters are put on a model's linear layers; what is trained is a list of named fp32 leaves.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "adapters/adapter_spec.h"
#include "models/model.h"

namespace retort {

// Makes the model trainable as the spec says and returns its trainables in checkpoint order: fp32 leaves that
// require a gradient. Low-rank kinds are named in PEFT's way ("base_model.model.<layer>.lora_A.weight"), full
// fine-tuning in the checkpoint's ("<layer>.weight"). A is Kaiming-uniform with a = sqrt 5, that is
// U(-1/sqrt(in), 1/sqrt(in)), drawn by (seed, layer name, index); B is zero; DoRA's magnitude starts as the
// row norms of W. A tied head stays tied in full fine-tuning and is untied (config.tied_head = false) when
// modules_to_save trains the head or the embedding alone. RecipeError when a target matches no layer, or the
// model has adapters already.
std::vector<NamedTensor> attach(Model& model, const AdapterSpec& spec, uint64_t seed);

// What attach() would refuse, without changing the model.
void require_fitting(const Model& model, const AdapterSpec& spec);

// The trainables of a model that has been through attach (or whose adapter was loaded), in the same order and
// names.
std::vector<NamedTensor> trainables(Model& model);

// PEFT's rule: the whole name, or its end after a dot.
bool names_module(const std::string& layer, const std::string& target);

// Whether adapter.targets mean this layer. Layers that only choose (ops/role.h) are never meant.
bool is_target(const ModelConfig& config, const Linear& layer, const std::vector<std::string>& targets);

// Whether any linear layer has a low-rank adapter.
bool has_adapters(const Model& model);

// Makes one layer a trainable of its own, as modules_to_save does: lm_head, embed_tokens (each untied first),
// a norm, a linear layer. RecipeError when the model has no such layer.
void train_module_whole(Model& model, const std::string& name);

// L2 norms of the rows of W, fp32 [out]; W may be quantized.
Tensor row_norms(const Weight& weight);

inline constexpr std::string_view kPeftPrefix = "base_model.model.";

}  // namespace retort
