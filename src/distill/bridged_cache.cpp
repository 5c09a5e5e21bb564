#include "distill/bridged_cache.h"

#include <unordered_set>

#include "base/error.h"

namespace retort {

BridgedCache::BridgedCache(std::shared_ptr<const TeacherCache> cache, const Tokenizer& teacher, const std::vector<Sample>& theirs, const Tokenizer& student, const std::vector<Sample>& ours)
    : cache_(std::move(cache)), bridge_(teacher, student), vocabulary_(student.size()) {
  // An id stands several times where a text was split or a source is repeated: those come in the same order on both sides.
  std::unordered_map<std::string, std::vector<const Sample*>> by_id;
  for (const auto& sample : theirs) by_id[sample.id].push_back(&sample);
  std::unordered_map<std::string, size_t> used;
  std::unordered_set<Context> all;
  for (const auto& sample : ours) {
    const auto here = contexts(sample.tokens);
    for (size_t i = 1; i < sample.tokens.size(); ++i)
      if (sample.weights[i] != 0) all.insert(here[i - 1]);
    const auto found = by_id.find(sample.id);
    const auto number = used[sample.id]++;
    if (found == by_id.end() || number >= found->second.size()) continue;
    for (auto& [context, place] : bridge_places(sample, student, *found->second[number], teacher)) places_.emplace(context, std::move(place));
  }
  coverage_.positions = static_cast<int64_t>(all.size());
  coverage_.aligned = static_cast<int64_t>(places_.size());
  for (const auto& [context, place] : places_) {
    const auto one = carried(place);
    if (one.covered <= 0) continue;
    ++coverage_.heard;
    coverage_.mass += one.covered;
  }
  if (coverage_.heard > 0) coverage_.mass /= static_cast<double>(coverage_.heard);
}

ByteBridge::Carried BridgedCache::carried(const BridgePlace& place) const {
  const auto row = cache_->find(place.context);
  if (!row) throw FormatError(fmt::format("{}: has no row for a context of these samples ({} of {} positions are there); run `retort teach` to complete it", printable(cache_->folder().string()),
                                          cache_->positions(), cache_->planned_positions()));
  return bridge_.carry(*row, place.prefix);
}

std::optional<SparseRow> BridgedCache::find(Context context) const {
  const auto found = places_.find(context);
  if (found == places_.end()) return std::nullopt;
  auto one = carried(found->second);
  return one.covered > 0 ? std::optional(std::move(one.row)) : std::nullopt;
}

}  // namespace retort
