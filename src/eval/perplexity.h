// Perplexity over supervised tokens.
#pragma once
#include "eval/subject.h"

namespace retort {

struct Perplexity {
  double nats = 0;      // sum of w (-log p)
  double weight = 0;    // sum of w
  double bytes = 0;     // sum of w * bytes of the token; control tokens have none
  int64_t tokens = 0;   // supervised
  int64_t correct = 0;  // of them predicted by arg max

  double nats_per_token() const;
  double perplexity() const;     // exp(nats per token)
  double bits_per_byte() const;  // independent of the tokenizer, apart from control tokens
  double accuracy() const;       // of teacher-forced arg max
};

// RecipeError when no token is supervised.
// `each`, where it is set, becomes what was measured of each sample.
Perplexity measure_perplexity(const Subject& subject, const std::vector<Sample>& samples,
                              std::vector<SampleLikelihood>* each = nullptr);
TaskResult perplexity_task(const Subject& subject, const std::vector<Sample>& samples,
                           const std::string& name);

}  // namespace retort
