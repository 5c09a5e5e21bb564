// Whether a base is the one that an adapter was trained on, where their hashes differ: the same weights may
// lie in files of several precisions, and weights that hold the adapter already look like them too.
#pragma once
#include <utility>
#include <vector>

#include "models/model.h"

namespace retort {

// A layer and an adapter that is not on it yet (or is: the layer's own adapter is not looked at).
using LayerAdapters = std::vector<std::pair<const Linear*, const LowRank*>>;

// <W, scaling B A> summed over the layers, in double. Rounding W moves it by little; adding the update to W
// moves it by update_square().
double base_product(const LayerAdapters& adapters);
// |scaling B A|^2 summed over the layers.
double update_square(const LayerAdapters& adapters);

// The same as a share: how far these weights lie along the update from those of `product_then`, in units of
// the update, less what rounding to `coarser` may move them by chance. 1 where the update was merged, about 0
// where it was not; below a third nobody can tell.
inline constexpr double kMerged = 1.0 / 3;
double merged_share(const LayerAdapters& adapters, double product_then, WeightType coarser);

// The type that most of these layers' weights are held in.
WeightType base_type(const LayerAdapters& adapters);

LayerAdapters adapters_on(const Model& model);

}  // namespace retort
