// More tokens behind a tokenizer's last.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace retort {

struct NewToken {
  std::string text;
  bool special = true;  // a control token: found only where those are asked for, left out of answers
  bool operator==(const NewToken&) const = default;
};

// The id that the first of them takes: behind the last token, in the place of names that only pad a list.
int64_t first_new_id(const Tokenizer& tokenizer);

// The tokenizer with these from first_new_id() on. They are found in the raw text before anything else is,
// and merge with nothing. RecipeError naming the recipe's key (model.add_tokens of special ones,
// model.add_words of others) for a token that exists, stands twice, is white space or too long, for a word
// that looks like a control token, and for a tokenizer that nothing can be added to (a unigram model).
std::unique_ptr<Tokenizer> extended_tokenizer(const Tokenizer& tokenizer,
                                              const std::vector<NewToken>& tokens);

}  // namespace retort
