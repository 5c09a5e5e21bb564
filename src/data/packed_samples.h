// Samples of plain supervision (every weight 0 or 1) in memory, at three bytes a token.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "forest/samples.h"

namespace retort {

// The texts "file:line" of many samples, end to end.
class PackedIds {
 public:
  void add(std::string_view id);
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t index) const {
    return std::string_view(text_).substr(begin(index), ends_[index] - begin(index));
  }
  const std::string& text() const { return text_; }

 private:
  size_t begin(size_t index) const { return index == 0 ? 0 : ends_[index - 1]; }
  std::string text_;
  std::vector<size_t> ends_;
};

// std::logic_error for a weight other than 0 and 1, or for another number of weights than of tokens.
std::vector<uint8_t> packed_weights(const Sample& sample);
std::vector<float> unpacked_weights(const uint8_t* weights, size_t count);

class PackedSamples : public SampleStorage {
 public:
  void add(const Sample& sample);
  size_t size() const override { return places_.size(); }
  Sample read(size_t index) const override;
  int64_t tokens(size_t index) const override { return places_[index].count; }

 private:
  struct Place {
    uint32_t block = 0, first = 0, count = 0;  // in tokens
  };
  // Twice the id plus the weight, in 24 bits. A long list would be copied whole each time it grows: so there
  // are several.
  std::vector<std::vector<uint8_t>> blocks_;
  std::vector<Place> places_;
  PackedIds ids_;
};

}  // namespace retort
