#include "teacher/bridged_cache.h"

#include <unordered_set>
namespace retort {

BridgedCache::BridgedCache(std::shared_ptr<const TeacherCache> cache, const Tokenizer& teacher,
                           const Samples& theirs, const Tokenizer& student, const Samples& ours)
    : cache_(std::move(cache)), bridge_(teacher, student), vocabulary_(student.size()) {
  std::unordered_set<Context> all;
  for (const auto& sample : ours) {
    const auto here = contexts(sample.tokens);
    for (size_t i = 1; i < sample.tokens.size(); ++i)
      if (sample.weights[i] != 0) all.insert(here[i - 1]);
  }
  for (const auto& [our, their] : same_records(ours, theirs))
    for (auto& [context, place] : bridge_places(ours[our], student, theirs[their], teacher))
      places_.emplace(context, std::move(place));
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
  return bridge_.carry(cache_->at(place.context), place.prefix);
}

std::optional<SparseRow> BridgedCache::find(Context context) const {
  const auto found = places_.find(context);
  if (found == places_.end()) return std::nullopt;
  auto one = carried(found->second);
  return one.covered > 0 ? std::optional(std::move(one.row)) : std::nullopt;
}

}  // namespace retort
