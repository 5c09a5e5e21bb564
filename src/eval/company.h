// Ranks that hold a subject's model and compute a part of what is asked of it.
#pragma once
#include <functional>

#include "base/peers.h"
#include "eval/subject.h"

namespace retort {

// At rank 0. `call` has every other rank come to help_with_scores().
struct Company {
  Peers& peers;
  std::function<void()> call;
};

// What another rank does when it is called: its part of the scores that rank 0 asks for, of the model as it
// is there. Rank 0 has the numbers that it would have alone, bit for bit.
void help_with_scores(Peers& peers, const Model& model, const Tokenizer& tokenizer);

}  // namespace retort
