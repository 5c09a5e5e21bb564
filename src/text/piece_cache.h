// Pieces already encoded: words repeat, so most of a text is found here. One cache a thread, of fixed size,
// no locks.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace retort {

class PieceCache {
 public:
  static constexpr size_t kPlaces = 16384;  // 1 MiB
  static constexpr size_t kLongestKey = 30, kMostIds = 8;

  // The cache of this thread for the tokenizer of that serial number. A thread keeps two (student and
  // teacher).
  static PieceCache& of_this_thread(uint64_t serial) {
    thread_local PieceCache caches[2];
    thread_local int latest = 0;
    if (caches[latest].serial_ == serial) return caches[latest];
    latest = 1 - latest;
    if (caches[latest].serial_ != serial) caches[latest].reset(serial);
    return caches[latest];
  }

  struct Entry {
    uint8_t length, count;
    char key[kLongestKey];
    int32_t ids[kMostIds];
    bool holds(std::string_view piece) const {
      return length == piece.size() && std::memcmp(key, piece.data(), piece.size()) == 0;
    }
  };
  static_assert(sizeof(Entry) == 64, "one cache line");

  // The one place where `piece` (1 to kLongestKey bytes) may stand.
  Entry& place(std::string_view piece) { return entries_[hash(piece) & (kPlaces - 1)]; }

 private:
  void reset(uint64_t serial) {
    serial_ = serial;
    entries_.assign(kPlaces, Entry{});
  }
  static uint64_t hash(std::string_view piece) {
    const char* const at = piece.data();
    const size_t size = piece.size();
    const auto word = [](const char* from) {
      uint64_t value;
      std::memcpy(&value, from, 8);
      return value;
    };
    uint64_t mixed = size;
    if (size >= 8) {
      for (size_t i = 0; i + 8 <= size; i += 8) mixed = mix(mixed ^ word(at + i));
      return mix(mixed ^ word(at + size - 8));
    }
    uint64_t tail = 0;
    std::memcpy(&tail, at, size);
    return mix(mixed ^ tail << 8);
  }
  static uint64_t mix(uint64_t value) {
    const auto product = static_cast<unsigned __int128>(value ^ 0xA0761D6478BD642Fu) * 0xE7037ED1A0B428DBu;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }
  uint64_t serial_ = 0;
  std::vector<Entry> entries_;
};

}  // namespace retort
