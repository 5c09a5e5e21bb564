// Layers divided over ranks, texts over groups: the arithmetic of a pipeline, without a number of the model.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/peers.h"
#include "models/model.h"

namespace retort {

// Neighbouring layers [begin, end) of each rank that has some, in rank order, so that the rank with the most
// bytes has as few as can be. With more ranks than layers the last ranks have none, and no entry.
std::vector<Share> cut_layers(const std::vector<uint64_t>& bytes_of_layers, int64_t ranks);

// The bytes of each layer's matrices, as they are held.
std::vector<uint64_t> bytes_of_layers(const Model& model);

// "layers divided by 2 ranks: rank 0 on a reads 0 to 15 (3.1 GiB), rank 1 on b 16 to 31 (3.1 GiB)".
std::string describe_cut(const std::vector<uint64_t>& bytes_of_layers,
                         const std::vector<Share>& layers_of_ranks,
                         const std::function<std::string(int64_t rank)>& name);

// What a group of texts is given.
struct GroupRule {
  int64_t most_groups = 1;  // more of them keep no rank busier
  int64_t least_texts = 1;  // a text for each that is computed beside others
  int64_t least_rows = 1;   // so that a matrix is multiplied with enough rows to be worth its decoding
  int64_t most_rows = 1;    // whose states have room between two layers; a longer text is a group of its own
};
// Texts [begin, end) of each group, by their rows: about equal groups.
std::vector<Share> cut_groups(const std::vector<int64_t>& rows, const GroupRule& rule);

// Rows from which on a matrix's decoding costs next to nothing beside its product: of a model with experts as
// many more as an expert meets one row of.
int64_t rows_worth_decoding(const ModelConfig& config);

}  // namespace retort
