#include "data/spelled_tokens.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>

#include "base/error.h"
#include "text/chat.h"
#include "text/thoughts.h"

namespace retort {
namespace {

constexpr size_t kShown = 5;

// Tokens that the built-in templates write between texts. Marks of thoughts are left out: records may spell
// them.
std::set<std::string> marks_of_templates() {
  const std::vector<Message> talk = {{"user", "q"}, {"assistant", "a"}},
                             with_system = {{"system", "s"}, {"user", "q"}, {"assistant", "a"}};
  std::set<std::string> marks;
  for (const auto& chat : chat_templates())
    for (const auto* messages : {&talk, &with_system})
      for (const bool header : {false, true}) {
        try {
          for (const auto& piece : chat.render(*messages, header))
            if (piece.control && piece.text != kBeginOfText && piece.text != kEndOfText)
              marks.insert(piece.text);
        } catch (const RecipeError&) {}  // some know no system message, or no answer without a thought
      }
  for (const auto mark : thought_marks()) marks.erase(std::string(mark));
  return marks;
}

// The spellings, found by their first byte and by each length that one has.
class Spellings {
 public:
  explicit Spellings(const Tokenizer& tokenizer) {
    for (int32_t id = 0; id < tokenizer.size(); ++id)
      if (tokenizer.is_special(id)) add(tokenizer.token_text(id));
    own_ = static_cast<int32_t>(texts_.size());
    for (const auto& mark : marks_of_templates())
      if (!tokenizer.find(mark)) add(mark);
    std::set<size_t> lengths;
    for (const auto& text : texts_) lengths.insert(text.size());
    lengths_.assign(lengths.rbegin(), lengths.rend());  // the longest first
  }

  void find(std::string_view text, std::set<int32_t>& found) const {
    for (size_t i = 0; i < text.size(); ++i) {
      if (!starts_[static_cast<unsigned char>(text[i])]) continue;
      for (const auto length : lengths_) {
        if (length > text.size() - i) continue;
        const auto one = numbers_.find(std::string(text.substr(i, length)));
        if (one == numbers_.end()) continue;
        found.insert(one->second);
        i += length - 1;
        break;
      }
    }
  }

  bool is_own(int32_t number) const { return number < own_; }
  const std::string& text(int32_t number) const { return texts_[static_cast<size_t>(number)]; }

 private:
  void add(const std::string& text) {
    if (text.size() < 3) return;
    if (!numbers_.emplace(text, static_cast<int32_t>(texts_.size())).second) return;
    starts_[static_cast<unsigned char>(text[0])] = true;
    texts_.push_back(text);
  }

  bool starts_[256] = {};
  std::vector<size_t> lengths_;
  std::vector<std::string> texts_;  // the tokenizer's own, then those of other templates
  int32_t own_ = 0;                 // how many are the tokenizer's
  std::unordered_map<std::string, int32_t> numbers_;
};

// Tokens of one kind that a record spells, counted.
void count(const std::vector<std::string>& found, const std::string& place,
           std::map<std::string, int64_t>& counts, SpelledTokens::Kind& kind) {
  if (found.empty()) return;
  ++kind.texts;
  for (const auto& text : found) ++counts[text];
  if (kind.places.size() < kShown) kind.places.push_back(place);
}

void list(const std::map<std::string, int64_t>& counts, SpelledTokens::Kind& kind) {
  kind.tokens.assign(counts.begin(), counts.end());
  std::stable_sort(kind.tokens.begin(), kind.tokens.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
}

// "control tokens are spelled out in 3 texts (<|im_end|> in 3): x.jsonl:1, x.jsonl:2 and others"
std::string describe(std::string_view what, const SpelledTokens::Kind& kind) {
  std::string which, where;
  for (size_t i = 0; i < std::min(kind.tokens.size(), kShown); ++i)
    which +=
        fmt::format("{}{} in {}", i == 0 ? "" : ", ", printable(kind.tokens[i].first), kind.tokens[i].second);
  for (const auto& place : kind.places) where += (where.empty() ? "" : ", ") + printable(place);
  return fmt::format("{} are spelled out in {} text{} ({}{}): {}{}", what, kind.texts,
                     kind.texts == 1 ? "" : "s", which, kind.tokens.size() > kShown ? ", ..." : "", where,
                     static_cast<size_t>(kind.texts) > kind.places.size() ? " and others" : "");
}

}  // namespace

SpelledTokens find_spelled_tokens(const RecordSource& source, const RecordPlan& plan,
                                  const Tokenizer& tokenizer) {
  const Spellings spellings(tokenizer);
  SpelledTokens spelled;
  std::map<std::string, int64_t> own_counts, other_counts;
  source.pass(
      [&](int64_t row) {
        return row < static_cast<int64_t>(plan.rows.size()) && plan.rows[static_cast<size_t>(row)].copies > 0;
      },
      [&](int64_t, const Record& record) -> RecordSource::Later {
        std::set<int32_t> found;
        for (const auto& message : record.messages) spellings.find(message.content, found);
        spellings.find(record.text, found);
        if (found.empty()) return nullptr;
        std::vector<std::string> own, others;
        for (const auto number : found)
          (spellings.is_own(number) ? own : others).push_back(spellings.text(number));
        return [&, own = std::move(own), others = std::move(others), place = record.place] {
          count(own, place, own_counts, spelled.own);
          count(others, place, other_counts, spelled.others);
        };
      });
  list(own_counts, spelled.own);
  list(other_counts, spelled.others);
  return spelled;
}

std::string describe(const SpelledTokens& spelled) {
  std::string lines;
  if (spelled.own.texts > 0)
    lines = describe("control tokens", spelled.own) +
            ". They are learned as plain text, never as the tokens; if they mark turns, write the records as "
            "messages";
  if (spelled.others.texts > 0)
    lines += (lines.empty() ? "" : "\n") + describe("control tokens of other templates", spelled.others) +
             ". To this model they are words like others; if they mark turns, write the records as messages";
  return lines;
}

}  // namespace retort
