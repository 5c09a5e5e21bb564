// Layer-major: all texts go through one layer after the other, so that each layer is read once however many
// texts there are. The numbers are those of Model::hidden(), bit for bit: the same operations on the same
// forests.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "ops/workers.h"
#include "schedule/pass_record.h"
#include "schedule/shelf.h"

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

// How texts walk through the layers.
struct Walk {
  Abreast how;
  Shelf& shelf;  // where they wait between two layers
  std::string_view doing;
  Gradients gradients = Gradients::off;
  // Keeps what a pass left a layer as, instead of the shelf.
  std::function<Tensor(int64_t pass, const Tensor& left)> keep = {};
  // Passes in a row of which each reads the keys that those before it stored in a cache: attention computes
  // them one after the other. Their counts, of all passes together; empty: each pass stands by itself.
  std::vector<int64_t> chains = {};

  Tensor kept(int64_t pass, const Tensor& left) const { return keep ? keep(pass, left) : shelf.put(left); }
};

// What enters layer `index`, for each pass, becomes what leaves it [N,E]; without a graph. The layer's
// matrices are let go where its experts come one by one.
void through_layer(const Model& model, int64_t index, const std::vector<Pass>& passes,
                   std::vector<Tensor>& states, const Walk& walk);

// The same of those passes alone that `which` names, rising; walk.keep hears of them by these numbers.
void through_layer(const Model& model, int64_t index, const std::vector<size_t>& which,
                   const std::vector<Pass>& passes, std::vector<Tensor>& states, const Walk& walk);

// Hidden states after the final norm of each pass, as Model::hidden() gives them; without a graph. With a
// record, passes go on from the layers that it knows them to have left.
std::vector<Tensor> hidden_by_layers(const Model& model, const std::vector<Pass>& passes, const Walk& walk,
                                     PassRecord* record = nullptr);

// What a layer begins with: its matrices but those of experts.
std::vector<const Linear*> read_first(const Model& model, int64_t index);

// Bytes of a token's states that a layer has at work: what enters it and what leaves it; of a sparse layer
// also what its experts read, and their sum in fp32.
double state_bytes_at_work(const Model& model, at::ScalarType compute);

// The next passes, from `first` on, whose states between two layers fit the model's budget: at work, and kept
// `times` over. At least one; all where they wait in a scratch folder.
size_t passes_that_fit(const Model& model, const std::vector<int64_t>& rows, size_t first,
                       at::ScalarType compute, double times);

}  // namespace retort
