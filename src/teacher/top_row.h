// The likeliest tokens of a distribution whose rest nobody tells: what servers and files of log-probabilities
// say of a teacher.
#pragma once
#include <cstdint>
#include <vector>

namespace retort {

// What follows a context, as far as it is known.
struct TopRow {
  std::vector<int32_t> ids;  // likeliest first
  std::vector<float> log_p;  // of the whole vocabulary, natural logarithm
};

}  // namespace retort
