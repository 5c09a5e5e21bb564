// Tokens that a base has not: behind its tokenizer's last, with rows of the embedding and the head.
#pragma once
#include <vector>

#include "models/model.h"

namespace retort {

// What a recipe's model section adds: its control tokens first, then its words.
std::vector<NewToken> tokens_to_add(const ModelSpec& spec);

// Adds tokens to a model that was just loaded. Each takes the next id; a row that the matrices have already
// (a padded vocabulary's) is overwritten, others are added, and the configuration's vocabulary grows. A new
// row is the mean of the rows of all old tokens, in fp32, as transformers' resize_token_embeddings makes it
// but for noise of 1e-9 of their covariance. The matrices keep their type. loaded.sha256 stays that of the
// files; loaded.added_tokens says what they lack. RecipeError for a token that exists or stands twice, for
// tokenizers that nothing can be added to, and for a matrix of a type that is read and not written.
void add_tokens(LoadedModel& loaded, const std::vector<NewToken>& tokens);

}  // namespace retort
