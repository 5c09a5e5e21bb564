#include "run/word.h"

#include <stdexcept>

namespace retort {

void say(Peers& peers, Word word) { broadcast(peers, 0, std::as_writable_bytes(std::span(&word, 1))); }

Word hear(Peers& peers) {
  auto word = Word::end;
  broadcast(peers, 0, std::as_writable_bytes(std::span(&word, 1)));
  return word;
}

void say_text(Peers& peers, const std::string& text) {
  say(peers, Word::hear);
  broadcast_text(peers, 0, text);
}

std::string hear_text(Peers& peers) {
  const auto word = hear(peers);
  if (word == Word::end) throw RunEnded();
  if (word != Word::hear) throw std::logic_error("rank 0 speaks of something else");
  return broadcast_text(peers, 0, "");
}

}  // namespace retort
