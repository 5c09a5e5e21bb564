// Gradients layer-major: forward keeps what stands between layers, then from the last layer to the first each
// is computed again and differentiated, all texts of a layer before the next is read. Gradients are those of
// the whole graph, bit for bit, as with Pass::recompute.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "schedule/layers.h"
#include "schedule/walk_record.h"

namespace retort {

struct BackwardWalk {
  const Model& model;
  std::vector<Pass> passes;    // with the sinks of their gradients
  std::vector<Tensor> leaves;  // of the layers, of embedding, final norm and head, and any others
  // What text `i` costs, given its hidden states after the final norm: a scalar with a graph, or undefined.
  std::function<Tensor(int64_t text, const Tensor& hidden)> loss;
  // The whole gradient that a text has for a leaf of a layer, as soon as it is there; by several threads.
  std::function<void(int64_t text, const Tensor& leaf, Tensor gradient)> bring;
  std::string_view doing;
  // What lets a later process go on in the layer that this one was in. With it:
  WalkRecord* record = nullptr;
  // the sum that all texts brought for a leaf of a layer, undefined where there is none; asked for once, when
  // they have left the layer;
  std::function<Tensor(const Tensor& leaf)> sum = {};
  // that sum, as a record has it, in place of what texts would bring.
  std::function<void(const Tensor& leaf, const Tensor& sum)> restore = {};
};

// Returns the gradients of the leaves outside of the layers, for each text one a leaf of `walk.leaves`,
// undefined where there is none.
std::vector<std::vector<Tensor>> backward_by_layers(const BackwardWalk& walk, const Abreast& how);

}  // namespace retort
