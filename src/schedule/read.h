// Models read texts without learning: for teachers, scores and comparisons. Where a model's layers are in its
// file, all texts go through a layer before the next is read; else each goes through all layers by itself.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "schedule/pass_record.h"

namespace retort {

// One of the models that read the same texts.
struct Reader {
  const Model& model;
  std::function<Pass(int64_t text)> pass;  // called once a text; by several threads
  // Of a model with a scratch folder: what lets a later process go on in the layer that this one was in.
  PassRecord* record = nullptr;
};
// Of one text: hidden states after the final norm, and the pass, of each reader.
struct Read {
  std::vector<Tensor> hidden;
  std::vector<Pass> passes;
};

// Calls use(text, read) for each of `texts`, side by side, without a graph. `doing`: what is told when a stop
// is asked for.
void read_texts(const std::vector<Reader>& readers, const std::vector<int64_t>& texts, int64_t threads,
                std::string_view doing, const std::function<void(int64_t text, Read&& read)>& use);

}  // namespace retort
