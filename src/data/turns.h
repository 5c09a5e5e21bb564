// In which sample each answer of a conversation is learned.
#pragma once
#include <string_view>
#include <vector>

#include "data/record.h"

namespace retort {

// An answer is learned in the context in which it would be generated. Where the template writes it, or what
// stands before it, otherwise once later turns follow, the conversation up to it is a sample of its own.
struct Turns {
  std::vector<Record> samples;  // the whole conversation first, then one for each answer that later turns
                                // change; each says in its messages what is learned
  int64_t changed = 0;  // answers that later turns change, learned in samples of their own or left out
  int64_t dropped_thoughts = 0;  // answers that are learned without the thought that the record holds
};

// RecipeError for what the template refuses.
Turns turns_of(const DataSpec& spec, Record record, const ChatTemplate& chat);

// The record that a sample of this id was made of: the one that it is given, or the part of it that ends with
// an earlier answer.
Record record_of_sample(const Record& record, std::string_view sample_id);

}  // namespace retort
