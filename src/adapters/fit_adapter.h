// An adapter of a file, read whole and fitted to the layers of a base, before anything of it is on them.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "adapters/base_match.h"
#include "adapters/load_adapter.h"

namespace retort {

struct FittedAdapter {
  std::string file;
  std::vector<std::pair<Linear*, LowRank>> layers;
  std::vector<std::pair<std::string, Tensor>> saved;  // "lm_head.weight": layers that it holds whole
  AdapterNotes notes;

  LayerAdapters pairs() const {
    LayerAdapters all;
    for (const auto& [layer, adapter] : layers) all.emplace_back(layer, &adapter);
    return all;
  }
};

// FormatError as load_adapter() says.
FittedAdapter fit_adapter(LoadedModel& loaded, const std::filesystem::path& path);

LowRank low_rank(Tensor a, Tensor b, double scaling, double dropout);

// The model's trainables are the adapter's afterwards.
void put_on(Model& model, FittedAdapter fitted);

}  // namespace retort
