#include "teacher/byte_bridge.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace retort {
namespace {

// A run of supervised tokens as bytes: the token at index `at` of the sample begins at `begin` of `bytes`.
struct SupervisedRun {
  std::string bytes;
  std::vector<std::pair<size_t, size_t>> tokens;  // at, begin
};

std::vector<SupervisedRun> supervised_runs(const Sample& sample, const Tokenizer& tokenizer) {
  std::vector<SupervisedRun> runs;
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) continue;
    if (i == 1 || sample.weights[i - 1] == 0) runs.emplace_back();
    auto& run = runs.back();
    run.tokens.emplace_back(i, run.bytes.size());
    run.bytes += tokenizer.token_bytes(sample.tokens[i]);
  }
  return runs;
}

// theirs = ours + shift, from the ends; nullopt when neither ends with the other.
std::optional<int64_t> shift_of(const std::string& ours, const std::string& theirs) {
  if (!theirs.ends_with(ours) && !ours.ends_with(theirs)) return std::nullopt;
  return static_cast<int64_t>(theirs.size()) - static_cast<int64_t>(ours.size());
}

double entropy_term(double p) { return p > 0 ? -p * std::log(p) : 0; }

}  // namespace

ByteBridge::ByteBridge(const Tokenizer& teacher, const Tokenizer& student) : trie_(1) {
  // SentencePiece spells many a byte twice: "O" and, for what has no token of its own, "<0x4F>". No text is
  // cut into the second while there is the first.
  const auto stands_in = [&](int32_t id) {
    const auto text = student.token_text(id);
    return text.size() == 6 && text.starts_with("<0x") && text.ends_with(">");
  };
  std::vector<int32_t> ids;
  for (const bool last : {false, true})
    for (int32_t id = 0; id < student.size(); ++id)
      if (!student.is_special(id) && stands_in(id) == last) ids.push_back(id);
  for (const auto id : ids) {
    const auto bytes = student.token_bytes(id);
    if (bytes.empty()) continue;
    size_t node = 0;
    for (const char c : bytes) {
      const auto byte = static_cast<unsigned char>(c);
      auto found = trie_[node].next.find(byte);
      if (found == trie_[node].next.end()) {
        trie_.emplace_back();
        found = trie_[node].next.emplace(byte, static_cast<int32_t>(trie_.size()) - 1).first;
      }
      node = static_cast<size_t>(found->second);
    }
    if (trie_[node].token < 0) trie_[node].token = id;  // two spellings of one text: the first
  }
  for (int32_t id = 0; id < teacher.size(); ++id) {
    const bool control = teacher.is_special(id);
    teacher_bytes_.push_back(control ? "" : teacher.token_bytes(id));
    int32_t same = -1;
    if (control) {
      if (const auto found = student.find(teacher.token_text(id)); found && student.is_special(*found))
        same = *found;
      else if (teacher.eos == id && student.eos) same = *student.eos;
    }
    special_.push_back(same);
  }
}

int32_t ByteBridge::longest(std::string_view bytes) const {
  size_t node = 0;
  int32_t best = -1;
  for (const char c : bytes) {
    const auto found = trie_[node].next.find(static_cast<unsigned char>(c));
    if (found == trie_[node].next.end()) break;
    node = static_cast<size_t>(found->second);
    if (trie_[node].token >= 0) best = trie_[node].token;
  }
  return best;
}

ByteBridge::Carried ByteBridge::carry(const SparseRow& teacher, std::string_view prefix) const {
  struct Met {
    double p = 0, terms = 0;  // terms: of the entropy, before they met
    bool head = false;
  };
  Carried carried;
  std::map<int32_t, Met> mass;
  double covered = 0, apart = 0, together = 0;  // entropies (terms) of the tokens before and after
  for (size_t i = 0; i < teacher.ids.size(); ++i) {
    const auto id = static_cast<size_t>(teacher.ids[i]);
    const std::string_view bytes = teacher_bytes_.at(id);
    if (!bytes.starts_with(prefix) || (bytes.size() == prefix.size() && !prefix.empty())) continue;
    carried.possible += teacher.p[i];
    const auto token =
        bytes.empty() ? (prefix.empty() ? special_[id] : -1) : longest(bytes.substr(prefix.size()));
    if (token < 0) continue;
    auto& met = mass[token];
    met.p += teacher.p[i];
    met.terms += entropy_term(teacher.p[i]);
    met.head = met.head || i < teacher.head;
    covered += teacher.p[i];
  }
  if (carried.possible <= 0) return carried;
  carried.covered = covered / carried.possible;
  double head = 0, conditioned = 0;
  for (const bool in_head : {true, false}) {
    for (const auto& [token, met] : mass) {
      if (met.head != in_head) continue;
      const double p = met.p / carried.possible;
      carried.row.ids.push_back(token);
      carried.row.p.push_back(static_cast<float>(p));
      apart += met.terms, together += entropy_term(met.p), conditioned += entropy_term(p);
      if (in_head) head += p;
    }
    if (in_head) carried.row.head = carried.row.ids.size();
  }
  carried.row.rest = static_cast<float>(std::max(0.0, 1 - head));
  // The chain rule: what was one token and is one token keeps the teacher's exact entropy, what met loses
  // what told it apart. Inside a teacher token only the kept tokens are known.
  carried.row.entropy =
      static_cast<float>(prefix.empty() ? std::max(0.0, teacher.entropy - (apart - together)) : conditioned);
  return carried;
}

std::vector<std::pair<Context, BridgePlace>> bridge_places(const Sample& student,
                                                           const Tokenizer& student_tokens,
                                                           const Sample& teacher,
                                                           const Tokenizer& teacher_tokens, int64_t* lost) {
  std::vector<std::pair<Context, BridgePlace>> places;
  const auto ours = supervised_runs(student, student_tokens),
             theirs = supervised_runs(teacher, teacher_tokens);
  const auto our_contexts = contexts(student.tokens), their_contexts = contexts(teacher.tokens);
  for (size_t r = 0; r < ours.size(); ++r) {
    const auto shift = ours.size() == theirs.size() ? shift_of(ours[r].bytes, theirs[r].bytes) : std::nullopt;
    if (!shift) {
      if (lost) *lost += static_cast<int64_t>(ours[r].tokens.size());
      continue;
    }
    const auto& run = theirs[r];
    const std::pair<size_t, size_t>* found = nullptr;
    size_t next = 0;
    for (const auto& [at, begin] : ours[r].tokens) {
      const auto wanted = static_cast<int64_t>(begin) + *shift;
      // The last teacher token that begins at or before; of several that begin at one byte (control tokens
      // have none) the first.
      for (; next < run.tokens.size() && static_cast<int64_t>(run.tokens[next].second) <= wanted; ++next)
        if (!found || run.tokens[next].second > found->second) found = &run.tokens[next];
      if (!found || wanted < 0) {
        if (lost) ++*lost;
        continue;
      }
      places.emplace_back(
          our_contexts[at - 1],
          BridgePlace{their_contexts[found->first - 1],
                      run.bytes.substr(found->second, static_cast<size_t>(wanted) - found->second)});
    }
  }
  return places;
}

}  // namespace retort
