#include "data/overlap.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/random.h"
#include "data/words.h"

namespace retort {
namespace {

constexpr size_t kWords = 13;
constexpr int32_t kCommon = 10;  // training records
constexpr size_t kShown = 5;

uint64_t hash_of(const uint64_t* words, size_t count) {
  uint64_t hash = mix_bits(count);
  for (size_t i = 0; i < count; ++i) hash = mix_bits(hash ^ words[i]);
  return hash;
}

// Where each run of words of the held-out records occurs in the training data. Open addressing: there may be
// tens of millions.
class Runs {
 public:
  struct Found {
    uint64_t key = 0;
    int32_t records = 0;  // training records with this run
    int64_t last = -1;    // row of the last one counted
  };

  void add(uint64_t key) {
    if ((used_ + 1) * 3 > slots_.size() * 2) grow();
    auto& slot = slots_[place_of(key)];
    if (slot.key == key) return;
    slot.key = key;
    ++used_;
  }
  // SIZE_MAX: none of the held-out records has it.
  size_t find(uint64_t key) const {
    if (slots_.empty()) return SIZE_MAX;
    const auto place = place_of(key);
    return slots_[place].key == key ? place : SIZE_MAX;
  }
  Found& operator[](size_t place) { return slots_[place]; }
  const Found& operator[](size_t place) const { return slots_[place]; }
  bool empty() const { return used_ == 0; }

 private:
  size_t place_of(uint64_t key) const {  // of the key, or where it would stand
    auto place = static_cast<size_t>(mix_bits(key)) & (slots_.size() - 1);
    while (slots_[place].key != 0 && slots_[place].key != key) place = (place + 1) & (slots_.size() - 1);
    return place;
  }
  void grow() {
    auto before = std::exchange(slots_, std::vector<Found>(std::max<size_t>(1024, slots_.size() * 2)));
    for (const auto& slot : before)
      if (slot.key != 0) slots_[place_of(slot.key)] = slot;
  }
  std::vector<Found> slots_;  // key 0: free
  size_t used_ = 0;
};

// Keys of a record: all its words, then each run of kWords of them. Never 0; the two kinds differ by the
// count that is hashed, but for a record of exactly kWords words, whose whole is told apart by its lowest
// bit.
struct Keys {
  uint64_t whole = 0, prompt = 0;  // prompt: of what is asked, to the byte; 0 for a text
  std::vector<uint64_t> runs;
};
Keys keys_of(const Record& record) {
  const auto words = words_of(record);
  Keys keys;
  keys.whole = hash_of(words.data(), words.size()) | 1;
  if (record.messages.size() > 1) keys.prompt = mix_bits(prompt_key(record).high) | 1;
  for (size_t k = 0; k + kWords <= words.size(); ++k)
    keys.runs.push_back((hash_of(&words[k], kWords) & ~uint64_t{1}) + 2);
  return keys;
}

struct HeldOut {
  std::string place;
  Keys keys;
};

// What one held-out record meets.
struct Met {
  std::string place;
  int64_t exact = -1, run = -1;  // rows of training records
};

}  // namespace

Overlap find_overlap(const RecordSource& source, const RecordPlan& plan) {
  const auto on = [&](Side side) {
    return [&plan, side](int64_t row) {
      return row < static_cast<int64_t>(plan.rows.size()) && plan.rows[static_cast<size_t>(row)].side == side;
    };
  };
  Runs runs;
  std::vector<HeldOut> held_out;
  source.pass(on(Side::held_out), [&](int64_t, const Record& record) -> RecordSource::Later {
    const auto one = std::make_shared<HeldOut>(HeldOut{record.place, keys_of(record)});
    return [&, one] {
      runs.add(one->keys.whole);
      if (one->keys.prompt != 0) runs.add(one->keys.prompt);
      for (const auto key : one->keys.runs) runs.add(key);
      held_out.push_back(std::move(*one));
    };
  });
  if (runs.empty()) return {};
  source.pass(on(Side::train), [&](int64_t row, const Record& record) -> RecordSource::Later {
    const auto keys = keys_of(record);
    std::vector<size_t> found;
    const auto look = [&](uint64_t key) {
      if (const auto place = std::as_const(runs).find(key); place != SIZE_MAX) found.push_back(place);
    };
    look(keys.whole);
    if (keys.prompt != 0) look(keys.prompt);
    for (const auto key : keys.runs) look(key);
    if (found.empty()) return nullptr;
    return [&runs, row, found = std::move(found)] {
      for (const auto place : found) {
        auto& run = runs[place];
        if (run.last == row) continue;
        run.last = row;
        ++run.records;
      }
    };
  });

  Overlap overlap;
  std::vector<Met> exact, by_run;  // the first few of each
  const auto found_at = [&](uint64_t key) -> const Runs::Found& {
    return std::as_const(runs)[runs.find(key)];
  };
  for (const auto& [place, keys] : held_out) {
    Met met{place};
    if (const auto& whole = found_at(keys.whole); whole.records > 0) met.exact = whole.last;
    for (size_t k = 0; k < keys.runs.size() && met.exact < 0 && met.run < 0; ++k)
      if (const auto& run = found_at(keys.runs[k]); run.records > 0 && run.records <= kCommon)
        met.run = run.last;
    ++overlap.held_out;
    overlap.prompts += keys.prompt != 0 && found_at(keys.prompt).records > 0;
    overlap.exact += met.exact >= 0;
    overlap.ngram += met.run >= 0;
    if (met.exact >= 0 && exact.size() < kShown) exact.push_back(met);
    if (met.run >= 0 && by_run.size() < kShown) by_run.push_back(met);
  }
  std::vector<int64_t> rows;
  exact.insert(exact.end(), by_run.begin(), by_run.end());
  exact.resize(std::min(exact.size(), kShown));
  for (const auto& met : exact) rows.push_back(met.exact >= 0 ? met.exact : met.run);
  if (rows.empty()) return overlap;
  const auto records = records_of_rows(source, rows, "data");
  for (size_t i = 0; i < exact.size(); ++i)
    overlap.places.push_back(exact[i].place + (exact[i].exact >= 0 ? " = " : " ~ ") + records[i].place);
  return overlap;
}

Overlap find_overlap(const std::vector<Record>& records, const std::vector<bool>& held_out) {
  RecordPlan plan;
  for (const bool held : held_out) plan.rows.push_back({held ? Side::held_out : Side::train, 1});
  return find_overlap(RecordList(records), plan);
}

}  // namespace retort
