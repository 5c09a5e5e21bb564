#include "distill/byte_bridge.h"

#include <algorithm>
#include <map>

namespace retort {
namespace {

// Supervised tokens of a sample as bytes: the token at index `at` begins at `begin` of `bytes`.
struct SupervisedText {
  std::string bytes;
  std::vector<std::pair<size_t, size_t>> tokens;   // at, begin
};

SupervisedText supervised_text(const Sample& sample, const Tokenizer& tokenizer) {
  SupervisedText text;
  for (size_t i = 1; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] == 0) continue;
    text.tokens.emplace_back(i, text.bytes.size());
    text.bytes += tokenizer.token_bytes(sample.tokens[i]);
  }
  return text;
}

}  // namespace

ByteBridge::ByteBridge(const Tokenizer& teacher, const Tokenizer& student) : trie_(1) {
  for (int32_t id = 0; id < student.size(); ++id) {
    if (student.is_special(id)) continue;
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
    if (trie_[node].token < 0) trie_[node].token = id;   // two spellings of one text: the first
  }
  for (int32_t id = 0; id < teacher.size(); ++id) {
    const bool control = teacher.is_special(id);
    teacher_bytes_.push_back(control ? "" : teacher.token_bytes(id));
    int32_t same = -1;
    if (control) {
      if (const auto found = student.find(teacher.token_text(id)); found && student.is_special(*found)) same = *found;
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
  Carried carried;
  std::map<int32_t, double> mass;
  double met = 0;
  for (size_t i = 0; i < teacher.ids.size(); ++i) {
    const auto id = static_cast<size_t>(teacher.ids[i]);
    const std::string_view bytes = teacher_bytes_.at(id);
    if (!bytes.starts_with(prefix) || (bytes.size() == prefix.size() && !prefix.empty())) continue;
    carried.possible += teacher.p[i];
    const auto token = bytes.empty() ? (prefix.empty() ? special_[id] : -1) : longest(bytes.substr(prefix.size()));
    if (token < 0) continue;
    mass[token] += teacher.p[i];
    met += teacher.p[i];
  }
  if (carried.possible > 0) carried.covered = met / carried.possible;
  for (const auto& [token, p] : mass) {
    carried.row.ids.push_back(token);
    carried.row.p.push_back(static_cast<float>(p / carried.possible));
  }
  carried.row.head = carried.row.ids.size();
  carried.row.rest = static_cast<float>(1 - carried.covered);
  return carried;
}

std::vector<std::pair<Context, BridgePlace>> bridge_places(const Sample& student, const Tokenizer& student_tokens, const Sample& teacher, const Tokenizer& teacher_tokens, int64_t* lost) {
  std::vector<std::pair<Context, BridgePlace>> places;
  const auto ours = supervised_text(student, student_tokens), theirs = supervised_text(teacher, teacher_tokens);
  // SentencePiece puts a space before a text: one of the two may have it.
  int64_t shift = 0;   // theirs = ours + shift
  if (theirs.bytes != ours.bytes) {
    if (theirs.bytes == " " + ours.bytes) shift = 1;
    else if (ours.bytes == " " + theirs.bytes) shift = -1;
    else {
      if (lost) *lost += static_cast<int64_t>(ours.tokens.size());
      return places;
    }
  }
  const auto our_contexts = contexts(student.tokens), their_contexts = contexts(teacher.tokens);
  for (const auto& [at, begin] : ours.tokens) {
    const auto wanted = static_cast<int64_t>(begin) + shift;
    // The last teacher token that begins at or before; of several that begin at one byte (control tokens have none) the first.
    const std::pair<size_t, size_t>* found = nullptr;
    for (const auto& token : theirs.tokens) {
      if (static_cast<int64_t>(token.second) > wanted) break;
      if (!found || token.second > found->second) found = &token;
    }
    if (!found || wanted < 0) {
      if (lost) ++*lost;
      continue;
    }
    places.emplace_back(our_contexts[at - 1], BridgePlace{their_contexts[found->first - 1], theirs.bytes.substr(found->second, static_cast<size_t>(wanted) - found->second)});
  }
  return places;
}

}  // namespace retort
