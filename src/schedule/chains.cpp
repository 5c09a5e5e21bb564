#include "schedule/chains.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "models/layer_stream.h"

namespace retort {
namespace {

struct Place {
  size_t chain, pass;
};

// The first passes of all chains, then the second ones: whoever takes some from the front has the earlier
// ones of each chain.
std::vector<Place> in_turns(const std::vector<Chain>& chains) {
  std::vector<Place> places;
  size_t longest = 0;
  for (const auto& chain : chains) longest = std::max(longest, chain.size());
  for (size_t pass = 0; pass < longest; ++pass)
    for (size_t chain = 0; chain < chains.size(); ++chain)
      if (pass < chains[chain].size()) places.push_back({chain, pass});
  return places;
}

}  // namespace

std::vector<std::vector<Tensor>> hidden_of_chains(const Model& model, const std::vector<Chain>& chains,
                                                  const Abreast& how, std::string_view doing) {
  std::vector<std::vector<Tensor>> hidden(chains.size());
  for (size_t i = 0; i < chains.size(); ++i) hidden[i].resize(chains[i].size());
  const auto places = in_turns(chains);
  if (places.empty()) return hidden;
  const auto pass_at = [&](const Place& place) -> const Pass& { return chains[place.chain][place.pass]; };
  std::vector<int64_t> rows;
  double bytes = 0;
  const auto compute = pass_at(places[0]).compute;
  for (const auto& place : places) {
    rows.push_back(pass_at(place).size());
    bytes += state_bytes_at_work(model, compute) * static_cast<double>(rows.back());
  }
  // A step has few rows: they wait in memory, whatever folder there is for many.
  const auto& budget = model.stream()->budget();
  const bool fits = bytes <= static_cast<double>(budget.states);
  Shelf shelf(fits ? std::filesystem::path() : std::filesystem::path(budget.scratch));
  for (size_t first = 0, end = 0; first < places.size(); first = end) {
    end = passes_that_fit(model, rows, first, compute, 0);
    std::vector<Place> some(places.begin() + static_cast<std::ptrdiff_t>(first),
                            places.begin() + static_cast<std::ptrdiff_t>(end));
    std::stable_sort(some.begin(), some.end(),
                     [](const Place& a, const Place& b) { return a.chain < b.chain; });
    Walk walk{how, shelf, doing};
    std::vector<Pass> passes;
    std::vector<int64_t> lengths(chains.size());
    for (const auto& place : some) {
      ++lengths[place.chain];
      passes.push_back(pass_at(place));
    }
    std::copy_if(lengths.begin(), lengths.end(), std::back_inserter(walk.chains),
                 [](int64_t length) { return length > 0; });
    auto states = hidden_by_layers(model, passes, walk);
    for (size_t i = 0; i < some.size(); ++i) hidden[some[i].chain][some[i].pass] = std::move(states[i]);
  }
  return hidden;
}

double bytes_of_step(const Model& model, int64_t texts) {
  const auto& config = model.config;
  const auto chosen =
      config.experts > 0 ? static_cast<double>(config.experts_per_token) / static_cast<double>(config.experts)
                         : 0;
  const auto met = 1 - std::pow(1 - chosen, static_cast<double>(texts));  // the share of experts
  double all = 0, read = 0;
  std::vector<const Linear*> linears;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (const auto* linear : model.linears_of(layer)) linears.push_back(linear);
  for (const auto* linear : linears) {
    const auto row = row_bytes(linear->weight.type, static_cast<uint64_t>(linear->weight.columns));
    // Of codes of 4 bits, whose rows are no whole blocks, only the shares are needed.
    const auto bytes = static_cast<double>(linear->weight.rows) *
                       (row ? static_cast<double>(*row) : static_cast<double>(linear->weight.columns) / 2);
    all += bytes;
    read += linear->place.expert >= 0 ? bytes * met : bytes;
  }
  return all > 0 ? static_cast<double>(model.stream()->budget().read) * read / all : 0;
}

}  // namespace retort
