// The optimizers' arithmetic over plain arrays: one pass reads gradient and states, and writes states and
// weights. `share` multiplies every gradient on its way (1 / the step's weight, and clipping). Each returns
// whether all that is new is finite.
#pragma once
#include <cstdint>

namespace retort {

struct UpdateScalars {
  float share = 1;
  float keep = 1;                // 1 - learning rate * weight decay: what decoupled decay leaves of a weight
  float rate = 0;                // learning rate; adamw: over 1 - beta_1^t
  float beta_1 = 0, beta_2 = 0;  // sgd: beta_1 is the momentum
  float rest_1 = 1, rest_2 = 1;  // 1 - beta, rounded once from double
  float second_scale = 1;        // adamw: 1 / sqrt(1 - beta_2^t)
  float epsilon = 0;
  bool first = false;  // sgd: the first update fills the momentum with the gradient
};

// arXiv:1711.05101, Algorithm 2, in torch.optim.AdamW's order of operations.
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
