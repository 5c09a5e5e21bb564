// From logits to a token. The filters are those of transformers' logits processors, in their order:
// repetition penalty, temperature, top-k, top-p, min-p; each later one sees what the earlier ones left.
#pragma once
#include <cstdint>
#include <limits>
#include <span>
#include <unordered_set>

#include "generate/sample_spec.h"

namespace retort {

inline constexpr float kNever = -std::numeric_limits<float>::infinity();  // the logit of what cannot be drawn

// Applies the spec in place to the logits [V] of one text: a token that cannot be drawn becomes -infinity.
// `seen` holds every token of the text so far, prompt included; it is read only when a repetition penalty is
// set.
void filter_logits(std::span<float> logits, const SampleSpec& spec, const std::unordered_set<int32_t>& seen);

// The first of the largest.
int32_t most_likely(std::span<const float> logits);

// The token at `uniform` in [0, 1) of the cumulative distribution softmax(logits), in order of ids.
int32_t draw_token(std::span<const float> logits, double uniform);

// Both together: token number `step` of answer number `answer`. Changes the logits.
int32_t next_token(std::span<float> logits, const SampleSpec& spec, const std::unordered_set<int32_t>& seen,
                   int64_t answer, int64_t step);

}  // namespace retort
