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
// U(-1/sqrt(in), 1/sqrt(in)), drawn by (seed, layer name, index), of the embedding N(0, 1); B is zero; DoRA's
// magnitude starts as the row norms of W. A tied head stays tied in full fine-tuning and is untied
// (config.tied_head = false) when the head or the embedding is trained or adapted by itself. RecipeError when
// a target matches no layer, or the model has adapters already.
std::vector<NamedTensor> attach(Model& model, const AdapterSpec& spec, uint64_t seed);

// What attach() would refuse, without changing the model.
void require_fitting(const Model& model, const AdapterSpec& spec);

// The spec with trainable_tokens as ids, rising: what is no number is a token's spelling. Tokens that were
// added to the model (loaded.added_tokens) are among them, of the head too, unless embedding and head are
// trained whole: what nobody trains would be in no file of the adapter. RecipeError for a token that the
// tokenizer does not know, that the embedding has no row for, or that stands twice, and for adapters beside
// which PEFT cannot hold an added token's rows.
AdapterSpec with_token_ids(AdapterSpec spec, const LoadedModel& loaded);

// Rows of the embedding, and of the head where that is tied to it or `head` says so, become trainables of
// their own with these values [ids, hidden].
void train_rows(Model& model, const std::vector<int64_t>& ids, const Tensor& values, const Tensor& of_head);

// The trainables of a model that has been through attach (or whose adapter was loaded), in the same order and
// names.
std::vector<NamedTensor> trainables(Model& model);

// PEFT's rule: the whole name, or its end after a dot.
bool names_module(const std::string& layer, const std::string& target);

// Whether adapter.targets mean this layer. Layers that only choose (ops/role.h) are never meant.
bool is_target(const ModelConfig& config, const Linear& layer, const std::vector<std::string>& targets);

// The embedding or the head, which no layer of the stack has: "all" and "auto" do not mean them.
bool stands_outside(const Linear& layer);

// Whether attach() or an adapter with these modules gives a tied head a matrix of its own.
bool unties(const Model& model, const AdapterSpec& spec);

// Whether any matrix has a low-rank adapter, or rows that are trained alone.
bool has_adapters(const Model& model);

// Of one of the model's matrices(). The head or the embedding is untied from the other first.
void put_adapter(Model& model, Linear& layer, LowRank adapter);

// Makes one layer a trainable of its own, as modules_to_save does: lm_head, embed_tokens (each untied first),
// a norm, a linear layer. RecipeError when the model has no such layer.
void train_module_whole(Model& model, const std::string& name);

// L2 norms of the rows of W, fp32 [out]; W may be quantized.
Tensor row_norms(const Weight& weight);

inline constexpr std::string_view kPeftPrefix = "base_model.model.";

}  // namespace retort
