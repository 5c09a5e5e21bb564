// An adapter of a file, read whole and fitted to the layers of a base, before anything of it is on them.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "adapters/base_match.h"
#include "adapters/load_adapter.h"

namespace retort {

// Rows that an adapter trained alone, of the embedding and, where that is another matrix, of the head.
struct FittedRows {
  std::vector<int64_t> ids;  // rising
  Tensor values, of_head;    // [ids, hidden]; undefined: none
};

struct FittedAdapter {
  std::string file;
  std::vector<std::pair<Linear*, LowRank>> layers;
  std::vector<std::pair<std::string, Tensor>> saved;  // "lm_head.weight": layers that it holds whole
  FittedRows rows = {};
  AdapterNotes notes;

  LayerAdapters pairs() const {
    LayerAdapters all;
    for (const auto& [layer, adapter] : layers) all.emplace_back(layer, &adapter);
    return all;
  }
};

// Tokens that were added to the base of the adapter in this folder or file.
std::vector<NewToken> tokens_added_for(const std::filesystem::path& path);

// FormatError as load_adapter() says, and where tokens were added to the adapter's base that are not in this
// one.
FittedAdapter fit_adapter(LoadedModel& loaded, const std::filesystem::path& path);

LowRank low_rank(Tensor a, Tensor b, double scaling, double dropout);

// The model's trainables are the adapter's afterwards.
void put_on(Model& model, FittedAdapter fitted);

}  // namespace retort
