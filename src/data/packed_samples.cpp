#include "data/packed_samples.h"

#include <algorithm>
#include <stdexcept>

namespace retort {
namespace {

constexpr size_t kBlockTokens = size_t{1} << 20;

}  // namespace

void PackedIds::add(std::string_view id) {
  text_ += id;
  ends_.push_back(text_.size());
}

std::vector<uint8_t> packed_weights(const Sample& sample) {
  if (sample.weights.size() != sample.tokens.size()) throw std::logic_error("a sample has one weight a token");
  std::vector<uint8_t> packed(sample.weights.size());
  for (size_t i = 0; i < packed.size(); ++i) {
    if (sample.weights[i] != 0 && sample.weights[i] != 1) throw std::logic_error("packed samples have weights of 0 and 1");
    packed[i] = sample.weights[i] == 1;
  }
  return packed;
}

std::vector<float> unpacked_weights(const uint8_t* weights, size_t count) { return {weights, weights + count}; }

void PackedSamples::add(const Sample& sample) {
  const auto weights = packed_weights(sample);
  if (blocks_.empty() || blocks_.back().tokens.size() + sample.tokens.size() > blocks_.back().tokens.capacity()) {
    blocks_.emplace_back();
    blocks_.back().tokens.reserve(std::max(kBlockTokens, sample.tokens.size()));
    blocks_.back().weights.reserve(blocks_.back().tokens.capacity());
  }
  auto& block = blocks_.back();
  places_.push_back({static_cast<uint32_t>(blocks_.size() - 1), static_cast<uint32_t>(block.tokens.size()), static_cast<uint32_t>(sample.tokens.size())});
  block.tokens.insert(block.tokens.end(), sample.tokens.begin(), sample.tokens.end());
  block.weights.insert(block.weights.end(), weights.begin(), weights.end());
  ids_.add(sample.id);
}

Sample PackedSamples::read(size_t index) const {
  const auto& place = places_.at(index);
  const auto& block = blocks_[place.block];
  const auto* tokens = block.tokens.data() + place.first;
  return {{tokens, tokens + place.count}, unpacked_weights(block.weights.data() + place.first, place.count), std::string(ids_[index])};
}

}  // namespace retort
