#include "data/packed_samples.h"

#include <algorithm>
#include <stdexcept>

namespace retort {
namespace {

constexpr size_t kBlockTokens = size_t{1} << 20, kTokenBytes = 3;
constexpr int32_t kTokensNamed = 1 << 23;  // no vocabulary comes near

}  // namespace

void PackedIds::add(std::string_view id) {
  text_ += id;
  ends_.push_back(text_.size());
}

std::vector<uint8_t> packed_weights(const Sample& sample) {
  if (sample.weights.size() != sample.tokens.size())
    throw std::logic_error("a sample has one weight a token");
  std::vector<uint8_t> packed(sample.weights.size());
  for (size_t i = 0; i < packed.size(); ++i) {
    if (sample.weights[i] != 0 && sample.weights[i] != 1)
      throw std::logic_error("packed samples have weights of 0 and 1");
    packed[i] = sample.weights[i] == 1;
  }
  return packed;
}

std::vector<float> unpacked_weights(const uint8_t* weights, size_t count) {
  return {weights, weights + count};
}

void PackedSamples::add(const Sample& sample) {
  const auto weights = packed_weights(sample);
  const auto bytes = sample.tokens.size() * kTokenBytes;
  if (blocks_.empty() || blocks_.back().size() + bytes > blocks_.back().capacity()) {
    blocks_.emplace_back();
    blocks_.back().reserve(std::max(kBlockTokens * kTokenBytes, bytes));
  }
  auto& block = blocks_.back();
  places_.push_back({static_cast<uint32_t>(blocks_.size() - 1),
                     static_cast<uint32_t>(block.size() / kTokenBytes),
                     static_cast<uint32_t>(sample.tokens.size())});
  for (size_t i = 0; i < weights.size(); ++i) {
    if (sample.tokens[i] < 0 || sample.tokens[i] >= kTokensNamed)
      throw std::logic_error("packed samples have token ids of 23 bits");
    const auto both = static_cast<uint32_t>(sample.tokens[i]) * 2 + weights[i];
    for (size_t byte = 0; byte < kTokenBytes; ++byte)
      block.push_back(static_cast<uint8_t>(both >> (8 * byte)));
  }
  ids_.add(sample.id);
}

Sample PackedSamples::read(size_t index) const {
  const auto& place = places_.at(index);
  const auto* at = blocks_[place.block].data() + place.first * kTokenBytes;
  Sample sample{std::vector<int32_t>(place.count), std::vector<float>(place.count), std::string(ids_[index])};
  for (size_t i = 0; i < place.count; ++i, at += kTokenBytes) {
    const uint32_t both = at[0] | at[1] << 8 | at[2] << 16;
    sample.tokens[i] = static_cast<int32_t>(both / 2);
    sample.weights[i] = static_cast<float>(both % 2);
  }
  return sample;
}

}  // namespace retort
