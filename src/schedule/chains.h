// Texts that grow over a cache, layer-major: prompts and what follows them. All chains go through one layer
// after the other together, so that a token of every text costs one reading of the layers.
#pragma once
#include <span>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "schedule/layers.h"

namespace retort {

// Passes in the order in which they are computed: each reads the keys that those before it stored.
using Chain = std::span<const Pass>;

// Hidden states after the final norm of each pass of each chain, as Model::hidden() gives them, to the bit;
// without a graph. The model's layers are in its file. Chains are computed side by side; where the states of
// all passes do not fit the model's budget, the first passes of all chains go through the layers before the
// next.
std::vector<std::vector<Tensor>> hidden_of_chains(const Model& model, const std::vector<Chain>& chains,
                                                  const Abreast& how, std::string_view doing);

// Bytes of the layers' matrices that a step reads in which so many texts get a token each: of a layer with
// experts those that are chosen, where all are chosen alike.
double bytes_of_step(const Model& model, int64_t texts);

}  // namespace retort
