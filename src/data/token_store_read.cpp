// The reading side of the token store: what HDF5 hands over is checked again.
#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "data/token_store.h"

namespace retort {
namespace {

const std::vector<Hdf5Dataset> kDatasets = {{"tokens", Hdf5Element::i32},   {"weights", Hdf5Element::f32}, {"offsets", Hdf5Element::i64},
                                            {"held_out", Hdf5Element::i64}, {"ids", Hdf5Element::u8},      {"id_offsets", Hdf5Element::i64},
                                            {"counts", Hdf5Element::i64}};

// 0 <= first <= ... <= last == `end`.
void require_offsets(const std::string& path, std::string_view name, const std::vector<int64_t>& offsets, size_t end) {
  if (offsets.empty() || offsets.front() != 0 || offsets.back() < 0 || static_cast<uint64_t>(offsets.back()) != end || !std::is_sorted(offsets.begin(), offsets.end()))
    corrupt(path, name, "does not divide the data");
}

}  // namespace

StoredSamples read_token_store(const std::string& path, const Provenance& made_from, int64_t vocabulary) {
  std::vector<std::string> names;
  for (const auto& [name, value] : made_from) names.push_back(name);
  const auto content = read_hdf5(path, "a token store", names, kDatasets);
  const auto differs = differences(made_from, content.attributes);
  if (!differs.empty()) corrupt(path, "", "was made from something else: " + differs + "; delete the file or set data.cache to another one");

  const auto tokens = content.values<int32_t>(0);
  const auto weights = content.values<float>(1);
  const auto offsets = content.values<int64_t>(2);
  StoredSamples samples;
  samples.held_out_indices = content.values<int64_t>(3);
  const auto ids = content.values<char>(4);
  const auto id_offsets = content.values<int64_t>(5);
  const auto counts = content.values<int64_t>(6);

  if (weights.size() != tokens.size()) corrupt(path, "weights", fmt::format("{} values for {} tokens", weights.size(), tokens.size()));
  require_offsets(path, "offsets", offsets, tokens.size());
  require_offsets(path, "id_offsets", id_offsets, ids.size());
  if (offsets.size() != id_offsets.size()) corrupt(path, "id_offsets", "has another number of samples than offsets");
  const size_t count = offsets.size() - 1;
  if (samples.held_out_indices.size() > count) corrupt(path, "held_out", "more samples held out than there are");
  if (counts.size() != 10) corrupt(path, "counts", fmt::format("{} values; expected 10", counts.size()));
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary) corrupt(path, "tokens", fmt::format("token {} is {}; the vocabulary has {}", i, tokens[i], vocabulary));
    if (!(weights[i] >= 0) || !std::isfinite(weights[i])) corrupt(path, "weights", fmt::format("value {} is not a weight", i));
  }
  for (size_t s = 0; s < count; ++s) {
    Sample sample;
    sample.tokens.assign(tokens.begin() + offsets[s], tokens.begin() + offsets[s + 1]);
    sample.weights.assign(weights.begin() + offsets[s], weights.begin() + offsets[s + 1]);
    sample.id.assign(ids.begin() + id_offsets[s], ids.begin() + id_offsets[s + 1]);
    (s < count - samples.held_out_indices.size() ? samples.train : samples.held_out).push_back(std::move(sample));
  }
  samples.counts = {.records = counts[0],    .skipped_long = counts[1], .cut = counts[2],    .split_pieces = counts[3], .duplicates = counts[4],
                    .repeats = counts[5],    .left_out = counts[6],     .tokens = counts[7], .supervised = counts[8],   .longest = counts[9]};
  return samples;
}

}  // namespace retort
