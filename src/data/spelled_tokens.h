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
  int64_t texts = 0;                                    // records in which a control token is spelled out
  std::vector<std::pair<std::string, int64_t>> tokens;  // which, and in how many of them; most frequent first
  std::vector<std::string> places;                      // of the first few
};

// Looks for the spellings of the tokenizer's control tokens in everything that the plan uses.
SpelledTokens find_spelled_tokens(const RecordSource& source, const RecordPlan& plan,
                                  const Tokenizer& tokenizer);

// "control tokens are spelled out in 3 texts (...)", "" when in none.
std::string describe(const SpelledTokens& spelled);

}  // namespace retort
