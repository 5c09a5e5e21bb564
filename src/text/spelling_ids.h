// From spellings to ids, for lists of merges, which name a hundred thousand tokens: a table without a piece
// of memory for each entry, which a cache holds.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

class SpellingIds {
 public:
  // Of equal spellings the first counts. `tokens` stay where they are as long as this is used.
  explicit SpellingIds(const std::vector<std::string>& tokens) : tokens_(tokens) {
    size_t size = 64;
    while (size < 2 * tokens.size()) size *= 2;
    slots_.resize(size);
    for (size_t id = 0; id < tokens.size(); ++id) {
      const auto hash = std::hash<std::string_view>()(tokens[id]);
      auto& slot = slots_[place_of(hash, tokens[id])];
      if (slot.id < 0) slot = {high(hash), static_cast<int32_t>(id)};
    }
  }

  std::optional<int32_t> find(std::string_view spelling) const {
    const auto id = slots_[place_of(std::hash<std::string_view>()(spelling), spelling)].id;
    return id < 0 ? std::nullopt : std::optional(id);
  }

 private:
  struct Slot {
    uint32_t hash = 0;
    int32_t id = -1;  // free
  };
  static uint32_t high(size_t hash) { return static_cast<uint32_t>(hash >> 32); }

  // Of the spelling, or where it would stand.
  size_t place_of(size_t hash, std::string_view spelling) const {
    auto place = hash & (slots_.size() - 1);
    while (slots_[place].id >= 0 &&
           (slots_[place].hash != high(hash) || tokens_[static_cast<size_t>(slots_[place].id)] != spelling))
      place = (place + 1) & (slots_.size() - 1);
    return place;
  }

  const std::vector<std::string>& tokens_;
  std::vector<Slot> slots_;
};

}  // namespace retort
