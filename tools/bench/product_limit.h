// The least time of a pass that is read layer by layer, as far as its products go.
#pragma once
#include "models/model.h"

namespace retort {

// Wall seconds that the matrix products of so many texts of `length` tokens take with every core at work and
// all weights in memory: each shape of a layer is measured with the rows that it meets in the pass.
// Attention's own products, norms and everything else are not among them.
double product_seconds(const Model& model, int64_t texts, int64_t length, int64_t threads,
                       at::ScalarType compute);

}  // namespace retort
