// Texts as words, for whoever asks whether two say the same.
#pragma once
#include <cstdint>
#include <vector>

#include "data/record.h"

namespace retort {

// One 64-bit number a word: lower-case letters, digits and everything beyond ASCII that is no punctuation. In
// scripts that put no space between words each character is one. System messages are left out.
std::vector<uint64_t> words_of(const Record& record);

}  // namespace retort
