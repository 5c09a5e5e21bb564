#include "base/peers.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "base/error.h"
#include "base/stop.h"

namespace retort {
namespace {

template <class Value> std::span<std::byte> bytes_at(Value& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

void send_text(Peers& peers, int64_t to, const std::string& text) {
  uint64_t size = text.size();
  peers.send(to, bytes_at(size));
  peers.send(to, std::as_bytes(std::span(text)));
}

std::string receive_text(Peers& peers, int64_t from) {
  uint64_t size = 0;
  peers.receive(from, bytes_at(size));
  std::string text(size, '\0');
  peers.receive(from, std::as_writable_bytes(std::span(text)));
  return text;
}

// Along a binary tree whose root is `root`: rank k of those counted from there hears from the one without its
// lowest bit.
void broadcast(Peers& peers, int64_t root, std::span<std::byte> bytes) {
  const auto count = peers.count(), place = (peers.rank() - root + count) % count;
  const auto rank_at = [&](int64_t at) { return (at + root) % count; };
  int64_t bit = 1;
  while (bit < count && (place & bit) == 0) bit <<= 1;
  if (place != 0) peers.receive(rank_at(place - bit), bytes);
  for (bit >>= 1; bit > 0; bit >>= 1)
    if (place + bit < count) peers.send(rank_at(place + bit), bytes);
}

std::string broadcast_text(Peers& peers, int64_t root, std::string text) {
  uint64_t size = text.size();
  broadcast(peers, root, bytes_at(size));
  text.resize(size);
  broadcast(peers, root, std::as_writable_bytes(std::span(text)));
  return text;
}

bool any_of(Peers& peers, bool mine) {
  char any = mine ? 1 : 0;
  if (peers.rank() != 0) peers.send(0, bytes_at(any));
  else
    for (int64_t rank = 1; rank < peers.count(); ++rank) {
      char theirs = 0;
      peers.receive(rank, bytes_at(theirs));
      if (theirs) any = 1;
    }
  broadcast(peers, 0, bytes_at(any));
  return any != 0;
}

std::vector<std::string> gather_texts(Peers& peers, std::string mine) {
  if (peers.rank() != 0) {
    send_text(peers, 0, mine);
    return {};
  }
  std::vector<std::string> all = {std::move(mine)};
  for (int64_t rank = 1; rank < peers.count(); ++rank) all.push_back(receive_text(peers, rank));
  return all;
}

bool done_by_all(Peers& peers, const std::function<void()>& own) {
  std::exception_ptr failure;
  bool stopped = false;
  try {
    own();
  } catch (const Stopped&) { stopped = true; } catch (...) {
    if (peers.rank() != 0) throw;
    failure = std::current_exception();
  }
  const bool left = any_of(peers, stopped || failure);
  if (failure) std::rethrow_exception(failure);
  return !left;
}

void leave_with_all(std::string_view doing_what) {
  if (!stop_requested()) request_stop();
  leave_if_stopped(doing_what);
  throw Stopped("stopped");  // not reached: a stop is requested
}

Share share_of_rank(int64_t first, int64_t count, int64_t rank, int64_t ranks) {
  const auto left = count - first;
  return {first + left * rank / ranks, first + left * (rank + 1) / ranks};
}

Share share_of(int64_t first, int64_t count, const Peers* peers) {
  return peers ? share_of_rank(first, count, peers->rank(), peers->count()) : Share{first, count};
}

int64_t threads_of_share(int64_t threads, int64_t count, int64_t own) {
  const auto abreast = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, count));
  return std::min(abreast, own) * std::max<int64_t>(1, threads / abreast);
}

}  // namespace retort
