// Which messages of a conversation are learned: `data.train_on`.
#pragma once
#include "data/dataset.h"

namespace retort {

// The record with what is not to be learned marked so: answers where the assistant's are not asked for, calls
// of tools. RecipeError, with the place, when nothing is left.
Record chosen_to_learn(const TrainOnSpec& spec, Record record);

// Learns messages of others than the assistant: their words and what the template writes behind them before
// the next message. RecipeError where the template writes such a message otherwise than its words, or
// otherwise once later turns follow.
void learn_others(const TrainOnSpec& spec, const Record& record, const Tokenizer& tokenizer,
                  const ChatTemplate& chat, Sample& sample);

}  // namespace retort
