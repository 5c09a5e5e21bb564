#include "data/spelled_tokens.h"

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>

#include "base/error.h"

namespace retort {
namespace {

constexpr size_t kShown = 5;

// The spellings, found by their first byte and by each length that one has.
class Spellings {
 public:
  explicit Spellings(const Tokenizer& tokenizer) {
    std::set<size_t> lengths;
    for (int32_t id = 0; id < tokenizer.size(); ++id) {
      if (!tokenizer.is_special(id)) continue;
      const auto text = tokenizer.token_text(id);
      if (text.size() < 3) continue;
      starts_[static_cast<unsigned char>(text[0])] = true;
      lengths.insert(text.size());
      ids_.emplace(text, id);
    }
    lengths_.assign(lengths.rbegin(), lengths.rend());  // the longest first
  }

  void find(std::string_view text, std::set<int32_t>& found) const {
    for (size_t i = 0; i < text.size(); ++i) {
      if (!starts_[static_cast<unsigned char>(text[i])]) continue;
      for (const auto length : lengths_) {
        if (length > text.size() - i) continue;
        const auto one = ids_.find(std::string(text.substr(i, length)));
        if (one == ids_.end()) continue;
        found.insert(one->second);
        i += length - 1;
        break;
      }
    }
  }

 private:
  bool starts_[256] = {};
  std::vector<size_t> lengths_;
  std::unordered_map<std::string, int32_t> ids_;
};

}  // namespace

SpelledTokens find_spelled_tokens(const RecordSource& source, const RecordPlan& plan,
                                  const Tokenizer& tokenizer) {
  const Spellings spellings(tokenizer);
  SpelledTokens spelled;
  std::map<int32_t, int64_t> counts;
  source.pass(
      [&](int64_t row) {
        return row < static_cast<int64_t>(plan.rows.size()) && plan.rows[static_cast<size_t>(row)].copies > 0;
      },
      [&](int64_t, const Record& record) -> RecordSource::Later {
        std::set<int32_t> found;
        for (const auto& message : record.messages) spellings.find(message.content, found);
        spellings.find(record.text, found);
        if (found.empty()) return nullptr;
        return [&, found = std::move(found), place = record.place] {
          ++spelled.texts;
          for (const auto id : found) ++counts[id];
          if (spelled.places.size() < kShown) spelled.places.push_back(place);
        };
      });
  for (const auto& [id, count] : counts) spelled.tokens.emplace_back(tokenizer.token_text(id), count);
  std::stable_sort(spelled.tokens.begin(), spelled.tokens.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  return spelled;
}

std::string describe(const SpelledTokens& spelled) {
  if (spelled.texts == 0) return "";
  std::string which, where;
  for (size_t i = 0; i < std::min(spelled.tokens.size(), kShown); ++i)
    which += fmt::format("{}{} in {}", i == 0 ? "" : ", ", printable(spelled.tokens[i].first),
                         spelled.tokens[i].second);
  for (const auto& place : spelled.places) where += (where.empty() ? "" : ", ") + printable(place);
  return fmt::format(
      "control tokens are spelled out in {} text{} ({}{}): {}{}. They are learned as plain text, never as "
      "the "
      "tokens; if they mark turns, write the records as messages",
      spelled.texts, spelled.texts == 1 ? "" : "s", which, spelled.tokens.size() > kShown ? ", ..." : "",
      where, static_cast<size_t>(spelled.texts) > spelled.places.size() ? " and others" : "");
}

}  // namespace retort
