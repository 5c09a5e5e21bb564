// The optimizers' arithmetic over plain arrays: one pass reads gradient and states, and writes states and
// weights. Each returns whether all that is new is finite.
#pragma once
#include <cstdint>

#include "kernels/adamw.h"

namespace retort {

// Of every number, adamw_number().
bool adamw_update(float* weights, const float* sums, float* first, float* second, int64_t count,
                  const UpdateScalars& s);

// The same with moments in 8-bit blocks (arXiv:2110.02861): each block of 256 is decoded, updated and encoded
// again. A second moment above zero never becomes zero: its square root stands in a denominator.
bool adamw8bit_update(float* weights, const float* sums, uint8_t* first, float* first_absmax, uint8_t* second,
                      float* second_absmax, int64_t count, const UpdateScalars& s);

// Momentum as torch.optim.SGD's (no dampening, no Nesterov), decay decoupled. `momentum` may be null.
bool sgd_update(float* weights, const float* sums, float* momentum, int64_t count, const UpdateScalars& s);

// arXiv:2302.06675, Algorithm 2: the sign of an interpolation, which moves every weight by the rate.
bool lion_update(float* weights, const float* sums, float* momentum, int64_t count, const UpdateScalars& s);

// Sum of squares in double, in an order that depends on `count` alone.
double sum_of_squares(const float* values, int64_t count);

}  // namespace retort
