// Layer-major: all texts go through one layer after the other, so that each layer is read once however many
// texts there are. The numbers are those of Model::hidden(), bit for bit: the same operations on the same
// forests.
#pragma once
#include <string_view>
#include <vector>

#include "models/model.h"

namespace retort {

// How many passes are computed side by side, of how many threads each: what token-major would give them, so
// that products sum in the same order.
struct Abreast {
  int64_t passes = 1, inner = 1;
  int64_t threads(int64_t count) const { return std::min(passes, count) * inner; }
};
Abreast abreast(int64_t threads, int64_t passes);

// The pass of one text through layer `index`: attention needs all rows, what follows it in the last layer
// those that are asked for.
Pass pass_through(const Model& model, int64_t index, const Pass& pass);

// What enters layer `index`, for each pass, becomes what leaves it [N,E]; without a graph. The layer's
// matrices are let go where its experts come one by one.
void through_layer(const Model& model, int64_t index, const std::vector<Pass>& passes,
                   std::vector<Tensor>& states, const Abreast& how, std::string_view doing);

// Hidden states after the final norm of each pass, as Model::hidden() gives them; without a graph.
std::vector<Tensor> hidden_by_layers(const Model& model, const std::vector<Pass>& passes, const Abreast& how,
                                     std::string_view doing);

// What a layer begins with: its matrices but those of experts.
std::vector<const Linear*> read_first(const Model& model, int64_t index);

// Bytes of a token's states that a layer has at work: what enters it and what leaves it; of a sparse layer
// also what its experts read, and their sum in fp32.
double state_bytes_at_work(const Model& model, at::ScalarType compute);

// The next passes, from `first` on, whose states between two layers fit the model's budget: at work, and kept
// `times` over. At least one.
size_t passes_that_fit(const Model& model, const std::vector<int64_t>& rows, size_t first,
                       at::ScalarType compute, double times);

}  // namespace retort
