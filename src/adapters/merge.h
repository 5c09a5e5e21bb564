// W' = W + scaling B A (DoRA: m (W + scaling B A) / its row norms), added in fp32, and rows that were trained
// alone in their places; whoever stores it rounds once.
#pragma once
#include "models/model.h"

namespace retort {

// Rows [first, first + count) of the merged matrix, fp32 [count, in]; the plain rows when the layer has no
// adapter. W is the weight that was trained against (dequantized when it is quantized), so QLoRA merges into
// its own base.
Tensor merged_rows(const Linear& layer, int64_t first, int64_t count);

// How much of the update rounding to `stored` loses: |round(W') - W'| / |W' - W| (Frobenius), the whole
// matrix. 0 when the layer has no adapter or an update of zero. Above 0.05 deserves a warning: a small update
// into bf16 can lose most of itself. `stored` may be any writable type; blocks of quantized types are counted
// as rounding too.
double delta_error(const Linear& layer, WeightType stored);

// Folds every adapter into its layer's weight (dense, `stored` f32 or bf16) and drops it. The base is another
// model then: loaded.sha256 is replaced, so that the same adapter is refused afterwards. RecipeError when
// there is nothing to fold: a second merge would otherwise pass unseen.
void merge_adapters(LoadedModel& loaded, at::ScalarType stored = at::kFloat);

}  // namespace retort
