// Adapters from files, put on their base. The base is matched by hash where the adapter names one, and by the
// names and shapes of its layers always.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "adapters/adapter_spec.h"
#include "models/model.h"

namespace retort {

// Keys in the metadata of adapter_model.safetensors. Of the base that the adapter was trained on: sha256 of
// the weight file(s), the type that most of the adapted weights were held in, and their inner product with
// the update (adapters/base_match.h).
inline constexpr const char* kBaseHashKey = "retort.base_sha256";
inline constexpr const char* kBaseTypeKey = "retort.base_type";
inline constexpr const char* kBaseProductKey = "retort.base_product";
// Tokens that were added to the base, in their order: [{"text": "<|law|>", "special": true}]. The files of
// the extended tokenizer lie beside the adapter.
inline constexpr const char* kAddedTokensKey = "retort.added_tokens";

// What is to be told about an adapter that was accepted.
using AdapterNotes = std::vector<std::string>;

// A folder of PEFT's or mlx-lm's layout, or a GGUF LoRA file (llama.cpp's --lora). Afterwards the model's
// trainables are the adapter's; tokens that were added to its base are added to this one, unless it has them
// already (model.add_tokens). RecipeError when the model carries an adapter already; FormatError when the
// adapter was trained on another base, or a layer or a shape does not fit. Where one of the two bases is a
// quantized file, they may be the same model: a note. An adapter that these weights hold already is refused.
AdapterNotes load_adapter(LoadedModel& loaded, const std::filesystem::path& path);

// Several at once: W + sum of weight * scaling * B A, as one adapter a layer whose rank is the sum of theirs
// (PEFT's add_weighted_adapter, "cat"). Of more than one, or with a weight that is not 1, RecipeError for
// what cannot be added: DoRA's magnitudes and layers that an adapter holds whole.
AdapterNotes load_adapters(LoadedModel& loaded, const std::vector<WeightedAdapter>& adapters);

// The training's beginning: attach()es a fresh adapter, or puts spec.from on the model with the spec's
// dropout. The trainables, as attach() returns them.
std::vector<NamedTensor> start_adapter(LoadedModel& loaded, const AdapterSpec& spec, uint64_t seed,
                                       AdapterNotes* notes = nullptr);
// What start_adapter() would refuse, without changing the model: RecipeError where spec.from adapts other
// layers than the spec names. The notes it would give.
AdapterNotes require_start(LoadedModel& loaded, const AdapterSpec& spec);

// Adds spec.merge to the model's weights, in fp32 and for good: nothing of it is trained.
AdapterNotes merge_into_base(LoadedModel& loaded, const std::vector<WeightedAdapter>& adapters);

// The adapter on a model in the words of a recipe, as far as one rank and one alpha say it.
AdapterSpec described_adapter(Model& model);

}  // namespace retort
