#include "teacher/contexts.h"

#include "base/hash.h"
#include "base/random.h"

namespace retort {
namespace {

constexpr Context kStart = 0x7E7047;
Context extended(Context context, int32_t token) {
  return mix_bits(context ^ mix_bits(static_cast<uint64_t>(static_cast<uint32_t>(token)) + 1));
}

}  // namespace

std::vector<Context> contexts(const Forest& forest) {
  std::vector<Context> all(forest.tokens.size());
  for (const auto& segment : forest.segments) {
    auto context =
        segment.parent < 0
            ? kStart
            : all[static_cast<size_t>(forest.segments[static_cast<size_t>(segment.parent)].end - 1)];
    for (auto row = segment.begin; row < segment.end; ++row)
      all[static_cast<size_t>(row)] = context = extended(context, forest.tokens[static_cast<size_t>(row)]);
  }
  return all;
}

std::vector<Context> contexts(const std::vector<int32_t>& tokens) {
  std::vector<Context> all;
  auto context = kStart;
  for (const auto token : tokens) all.push_back(context = extended(context, token));
  return all;
}

CachePlan plan_cache(const Samples& samples, int64_t part_positions) {
  CachePlan plan;
  CachePlan::Part part;
  for (size_t s = 0; s < samples.size(); ++s) {
    const auto sample = samples[s];
    const auto& [tokens, weights, id] = sample;
    const auto here = contexts(tokens);
    for (size_t i = 1; i < tokens.size(); ++i)
      if (weights[i] != 0) plan.position.try_emplace(here[i - 1], plan.positions());
    part.end_sample = s + 1;
    part.positions = plan.positions() - part.first_position;
    if (part.positions < part_positions && s + 1 < samples.size()) continue;
    if (part.positions > 0) plan.parts.push_back(part);
    part = {s + 1, s + 1, plan.positions(), 0};
  }
  return plan;
}

std::vector<std::pair<size_t, size_t>> same_records(const Samples& ours, const Samples& theirs) {
  std::unordered_map<std::string, std::vector<size_t>> by_id;
  for (size_t i = 0; i < theirs.size(); ++i) by_id[theirs[i].id].push_back(i);
  std::unordered_map<std::string, size_t> used;
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0; i < ours.size(); ++i) {
    const auto id = ours[i].id;
    const auto found = by_id.find(id);
    const auto number = used[id]++;
    if (found != by_id.end() && number < found->second.size()) pairs.emplace_back(i, found->second[number]);
  }
  return pairs;
}

std::string samples_hash(const Samples& samples) {
  Sha256 hash;
  for (const auto& sample : samples) {
    const uint64_t size = sample.tokens.size();
    hash.add(std::as_bytes(std::span(&size, 1)));
    hash.add(std::as_bytes(std::span(sample.tokens)));
    hash.add(std::as_bytes(std::span(sample.weights)));
  }
  return hash.hex();
}

}  // namespace retort
