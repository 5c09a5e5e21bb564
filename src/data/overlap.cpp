#include "data/overlap.h"

#include <algorithm>
#include <unordered_map>

#include "base/random.h"
#include "base/stop.h"

namespace retort {
namespace {

constexpr size_t kWords = 13;
constexpr int32_t kCommon = 10;  // training records
constexpr size_t kShown = 5;

// One 64-bit number a word: lower-case letters, digits and everything beyond ASCII.
std::vector<uint64_t> words_of(const Record& record) {
  std::vector<uint64_t> words;
  uint64_t word = 0;
  bool inside = false;
  const auto add = [&](std::string_view text) {
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
      if (byte >= 0x80 || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9')) {
        word = mix_bits(word ^ (byte + 1));
        inside = true;
      } else if (inside) {
        words.push_back(word);
        word = 0, inside = false;
      }
    }
    if (inside) words.push_back(word);
    word = 0, inside = false;
  };
  for (const auto& message : record.messages)
    if (message.role != "system") add(message.content);
  add(record.text);
  return words;
}

uint64_t hash_of(const uint64_t* words, size_t count) {
  uint64_t hash = mix_bits(count);
  for (size_t i = 0; i < count; ++i) hash = mix_bits(hash ^ words[i]);
  return hash;
}

struct Found {
  int32_t records = 0;     // training records with this run
  size_t last = SIZE_MAX;  // the last one counted
};

}  // namespace

Overlap find_overlap(const std::vector<Record>& records, const std::vector<bool>& held_out) {
  std::unordered_map<uint64_t, Found> whole, runs;  // keys: those of the held-out records
  for (size_t i = 0; i < records.size(); ++i) {
    if (!held_out[i]) continue;
    const auto words = words_of(records[i]);
    whole[hash_of(words.data(), words.size())];
    for (size_t k = 0; k + kWords <= words.size(); ++k) runs[hash_of(&words[k], kWords)];
  }
  if (whole.empty()) return {};
  for (size_t i = 0; i < records.size(); ++i) {
    if (held_out[i]) continue;
    if (i % 1024 == 0) leave_if_stopped("comparing train and held-out samples");
    const auto words = words_of(records[i]);
    const auto note = [&](std::unordered_map<uint64_t, Found>& map, uint64_t key) {
      const auto found = map.find(key);
      if (found == map.end() || found->second.last == i) return;
      ++found->second.records;
      found->second.last = i;
    };
    note(whole, hash_of(words.data(), words.size()));
    for (size_t k = 0; k + kWords <= words.size(); ++k) note(runs, hash_of(&words[k], kWords));
  }
  Overlap overlap;
  std::vector<std::string> by_run;
  for (size_t i = 0; i < records.size(); ++i) {
    if (!held_out[i]) continue;
    ++overlap.held_out;
    const auto words = words_of(records[i]);
    const auto& same = whole[hash_of(words.data(), words.size())];
    if (same.records > 0) {
      ++overlap.exact;
      if (overlap.places.size() < kShown) overlap.places.push_back(records[i].place + " = " + records[same.last].place);
      continue;
    }
    for (size_t k = 0; k + kWords <= words.size(); ++k) {
      const auto& run = runs[hash_of(&words[k], kWords)];
      if (run.records == 0 || run.records > kCommon) continue;
      ++overlap.ngram;
      if (by_run.size() < kShown) by_run.push_back(records[i].place + " ~ " + records[run.last].place);
      break;
    }
  }
  for (auto& place : by_run)
    if (overlap.places.size() < kShown) overlap.places.push_back(std::move(place));
  return overlap;
}

}  // namespace retort
