#include "data/near_duplicates.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <memory>

#include "base/random.h"
#include "data/words.h"

namespace retort {
namespace {

constexpr size_t kRun = 5;                  // words
constexpr size_t kBands = 20, kInBand = 6;  // two records of similarity s meet with 1 - (1 - s^6)^20
constexpr size_t kShown = 5;
constexpr size_t kLookedBack = 8;  // earlier records of a band that one is compared with

using Bands = std::array<uint64_t, kBands>;

// The runs of words of a record, sorted, each once.
std::vector<uint64_t> runs_of(const Record& record) {
  const auto words = words_of(record);
  std::vector<uint64_t> runs;
  const auto add = [&](const uint64_t* from, size_t count) {
    runs.push_back(XXH3_64bits(from, count * sizeof(uint64_t)));
  };
  if (words.size() < kRun) add(words.data(), words.size());
  else
    for (size_t i = 0; i + kRun <= words.size(); ++i) add(&words[i], kRun);
  std::sort(runs.begin(), runs.end());
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
  return runs;
}

Bands bands_of(const std::vector<uint64_t>& runs) {
  std::array<uint64_t, kBands * kInBand> least;
  least.fill(std::numeric_limits<uint64_t>::max());
  for (const auto run : runs)
    for (size_t i = 0; i < least.size(); ++i)  // an odd factor permutes the 64-bit numbers
      least[i] = std::min(least[i], mix_bits(run ^ (i + 1)));
  Bands bands;
  for (size_t b = 0; b < kBands; ++b) bands[b] = XXH3_64bits(&least[b * kInBand], kInBand * sizeof(uint64_t));
  return bands;
}

// Common runs as a share of all.
double similarity_of(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  size_t common = 0;
  for (size_t i = 0, k = 0; i < a.size() && k < b.size();) {
    if (a[i] == b[k]) ++common, ++i, ++k;
    else if (a[i] < b[k]) ++i;
    else ++k;
  }
  const auto all = a.size() + b.size() - common;
  return all == 0 ? 1 : static_cast<double>(common) / static_cast<double>(all);
}

struct Signed {
  int64_t row;
  bool late;  // stands behind those that come first
  Bands bands;
};

// Pairs of positions in `all`, the earlier one second, that meet in a band.
std::vector<std::pair<size_t, size_t>> candidates(const std::vector<Signed>& all) {
  std::vector<std::pair<size_t, size_t>> pairs;
  std::vector<std::pair<uint64_t, size_t>> band(all.size());
  for (size_t b = 0; b < kBands; ++b) {
    for (size_t i = 0; i < all.size(); ++i) band[i] = {all[i].bands[b], i};
    std::sort(band.begin(), band.end());
    for (size_t begin = 0; begin < band.size();) {
      size_t end = begin;
      while (end < band.size() && band[end].first == band[begin].first) ++end;
      // With the first ones, of which a large group of equal records is made, and with the last ones before
      // it.
      for (size_t i = begin + 1; i < end; ++i)
        for (size_t k = begin; k < i; ++k) {
          if (k == begin + kLookedBack / 2 && i > begin + kLookedBack) k = i - kLookedBack / 2;
          pairs.emplace_back(band[i].second, band[k].second);
        }
      begin = end;
    }
  }
  std::sort(pairs.begin(), pairs.end());
  pairs.erase(std::unique(pairs.begin(), pairs.end()), pairs.end());
  return pairs;
}

}  // namespace

NearDuplicates find_near_duplicates(const RecordSource& source, double similarity,
                                    const std::function<bool(int64_t row)>& wanted,
                                    const std::function<bool(int64_t row)>& first) {
  std::vector<Signed> all;
  source.pass(wanted, [&](int64_t row, const Record& record) -> RecordSource::Later {
    const auto bands = std::make_shared<const Bands>(bands_of(runs_of(record)));
    return [&, row, bands] { all.push_back({row, first && !first(row), *bands}); };
  });
  std::stable_sort(all.begin(), all.end(), [](const Signed& a, const Signed& b) { return a.late < b.late; });
  const auto pairs = candidates(all);
  NearDuplicates found;
  if (pairs.empty()) return found;

  std::map<int64_t, std::pair<std::vector<uint64_t>, std::string>> runs;  // by row, with the place
  for (const auto& [later, earlier] : pairs) runs[all[later].row], runs[all[earlier].row];
  source.pass([&](int64_t row) { return runs.count(row) > 0; },
              [&](int64_t row, const Record& record) -> RecordSource::Later {
                auto own = std::make_shared<std::vector<uint64_t>>(runs_of(record));
                return [&, row, own, place = record.place] { runs[row] = {std::move(*own), place}; };
              });
  // What is itself like an earlier one stands for nothing: a chain of small changes does not lead away.
  std::vector<bool> gone(all.size(), false);
  for (const auto& [later, earlier] : pairs) {
    if (gone[later] || gone[earlier]) continue;
    const auto &a = runs[all[later].row], &b = runs[all[earlier].row];
    if (similarity_of(a.first, b.first) < similarity) continue;
    gone[later] = true;
    found.pairs.emplace_back(all[later].row, all[earlier].row);
    if (found.places.size() < kShown) found.places.push_back(a.second + " ~ " + b.second);
  }
  std::sort(found.pairs.begin(), found.pairs.end());
  return found;
}

}  // namespace retort
