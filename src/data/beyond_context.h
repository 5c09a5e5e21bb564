// Samples that are longer than what a model was made for.
#pragma once
#include <string>
#include <vector>

#include "data/dataset.h"

namespace retort {

// A line for each side of the data that has samples of more tokens than the model's context (0: none is
// known): how many, the longest, its place, and what to do.
std::vector<std::string> beyond_context(const Dataset& dataset, int64_t context);

// Of a model that is not computed past its context, because of `reason` ("this model's attention leaves
// tokens out"; empty: it is): RecipeError where a sample is longer, since its loss would be that of another
// model.
void refuse_beyond_context(const Dataset& dataset, int64_t context, const std::string& reason);

// RecipeError that names the held-out samples whose prompts leave no room for an answer in the context: a
// task that generates would refuse them after the training.
void refuse_prompts_beyond_context(const Dataset& dataset, int64_t context);

}  // namespace retort
