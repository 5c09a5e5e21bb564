// How a template marks thoughts, where it does so in a spelling of its own.
#pragma once
#include "text/chat.h"
#include "text/thoughts.h"

namespace retort {

// What it writes before and behind the thought of an answer, found by rendering one. Empty where it writes no
// thoughts, does not mark them, or marks them as one of the families does. `header` is what it writes before
// an answer without a thought.
ThoughtMarks own_thought_marks(const ChatTemplate& chat);

// The same, found once for each text of a template: for what asks record by record, from several threads.
const ThoughtMarks& kept_thought_marks(const ChatTemplate& chat);

}  // namespace retort
