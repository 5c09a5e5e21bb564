// Processes (ranks) that do a piece of work together: how they reach each other, and what all of them do at
// the same place.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// How ranks reach each other. Work without peers is that of one process. Calls come from one thread at a
// time, and every call of one rank has its counterpart in the other. What a rank that is gone leads to is the
// implementation's: the call does not come back, or throws Failure.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t count() const = 0;
  virtual std::string name(int64_t rank) const = 0;  // "rank 1 on node-b"
  // The lowest rank on the same machine, whose memory they share.
  virtual int64_t first_on_machine(int64_t) const { return 0; }
  // They come back when the bytes may be changed, or are there.
  virtual void send(int64_t to, std::span<const std::byte> bytes) = 0;
  virtual void receive(int64_t from, std::span<std::byte> bytes) = 0;
};

void send_text(Peers& peers, int64_t to, const std::string& text);
std::string receive_text(Peers& peers, int64_t from);

// All ranks call each of these together.
void broadcast(Peers& peers, int64_t root, std::span<std::byte> bytes);
std::string broadcast_text(Peers& peers, int64_t root, std::string text);
bool any_of(Peers& peers, bool mine);
// Every rank's text, in their order, at rank 0; nothing at the others.
std::vector<std::string> gather_texts(Peers& peers, std::string mine);
// Each rank does its own part. False at all of them where one was asked to stop in its middle: then the whole
// is not done. What else goes wrong at rank 0 is thrown there, once the others know that the whole is not
// done; at any other rank it is thrown at once, and its end is everybody's.
bool done_by_all(Peers& peers, const std::function<void()>& own);
// Throws Stopped although it may have been another rank that was asked to stop.
[[noreturn]] void leave_with_all(std::string_view doing_what);

// Of the pieces [first, count) those that one rank computes: ranks have neighbours, in rank order.
struct Share {
  int64_t begin = 0, end = 0;
  int64_t size() const { return end - begin; }
};
Share share_of_rank(int64_t first, int64_t count, int64_t rank, int64_t ranks);
Share share_of(int64_t first, int64_t count, const Peers* peers);  // this rank's; all of them without peers
// Threads for `own` of `count` pieces, so that each piece has as many inner threads as in one process that
// has all of them: inner threads change the last bits.
int64_t threads_of_share(int64_t threads, int64_t count, int64_t own);

}  // namespace retort
