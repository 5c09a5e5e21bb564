// Texts that spell what only the template may write.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/record_plan.h"
#include "text/tokenizer.h"

namespace retort {

struct SpelledTokens {
  struct Kind {
    int64_t texts = 0;                                    // records in which such a token is spelled out
    std::vector<std::pair<std::string, int64_t>> tokens;  // which, and in how many; most frequent first
    std::vector<std::string> places;                      // of the first few
  };
  Kind own;     // the tokenizer's control tokens
  Kind others;  // what other built-in templates write as control tokens, and this tokenizer has not
};

// Looks for such spellings in everything that the plan uses.
SpelledTokens find_spelled_tokens(const RecordSource& source, const RecordPlan& plan,
                                  const Tokenizer& tokenizer);

// "control tokens are spelled out in 3 texts (...)" and "control tokens of other templates are ...", a line
// for each; "" when in none.
std::string describe(const SpelledTokens& spelled);

}  // namespace retort
