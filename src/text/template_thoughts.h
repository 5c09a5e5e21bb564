// How a template marks thoughts, where it does so in a spelling of its own.
#pragma once
#include "text/chat.h"
#include "text/thoughts.h"

namespace retort {

// What it writes before and behind the thought of an answer, found by rendering one. Empty where it writes no
// thoughts, does not mark them, or marks them as one of the families does.
ThoughtMarks own_thought_marks(const ChatTemplate& chat);

}  // namespace retort
