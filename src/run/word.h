// What rank 0 of a run says to the others, who wait for it.
#pragma once
#include <string>

#include "base/error.h"
#include "base/peers.h"

namespace retort {

enum class Word : char {
  hear,     // a text follows
  teach,    // ask the teacher with me
  cache,    // here is what the teacher said
  train,    // train with me
  weights,  // here is what was trained
  score,    // score texts with me
  end,      // that was all
};

// Rank 0 speaks; the others wait for what it says.
void say(Peers& peers, Word word);
Word hear(Peers& peers);

// A text that the others wait for: hear_text() throws RunEnded where rank 0 has ended the run instead.
struct RunEnded : Stopped {
  RunEnded() : Stopped("rank 0 has ended the run") {}
};
void say_text(Peers& peers, const std::string& text);
std::string hear_text(Peers& peers);

}  // namespace retort
