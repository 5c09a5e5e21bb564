// The end of the last layer: what follows attention there is computed for the rows that somebody asks for.
#pragma once
#include "ops/pass.h"

namespace retort {

// Rows pass.rows of x [N,...], or x itself where all are wanted. Gradients of the other rows are zero.
Tensor keep_rows(const Tensor& x, const Pass& pass);

}  // namespace retort
