// The ranks of a training: processes that hold the same model and divide the forests of each step among them.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "train/step.h"
#include "train/train.h"

namespace retort {

// How ranks reach each other. A training without peers is that of one process. Calls come from one thread at
// a time, and every call of one rank has its counterpart in the other. What a rank that is gone leads to is
// the implementation's: the call does not come back, or throws Failure.
class Peers {
 public:
  virtual ~Peers() = default;
  virtual int64_t rank() const = 0;
  virtual int64_t count() const = 0;
  virtual std::string name(int64_t rank) const = 0;  // "rank 1 on node-b"
  // They come back when the bytes may be changed, or are there.
  virtual void send(int64_t to, std::span<const std::byte> bytes) = 0;
  virtual void receive(int64_t from, std::span<std::byte> bytes) = 0;
};

// All ranks call each of these together.
void broadcast(Peers& peers, int64_t root, std::span<std::byte> bytes);
std::string broadcast_text(Peers& peers, int64_t root, std::string text);
bool any_of(Peers& peers, bool mine);
// Rank 0 throws RecipeError that names the first rank whose values are others, and what differs.
void require_equal(Peers& peers, const Fingerprint& mine);

// Of the forests [first, count) those that one rank computes: ranks have neighbours, in rank order.
struct Share {
  int64_t begin = 0, end = 0;
};
Share share_of(int64_t first, int64_t count, const Peers* peers);

// Sums of the first forests of a step on their way along the ranks. `leaves` give the shapes.
void send_sums(Peers& peers, int64_t to, const StepSums& sums);
StepSums receive_sums(Peers& peers, int64_t from, const std::vector<Tensor>& leaves);
void broadcast_sums(Peers& peers, int64_t root, const std::vector<Tensor>& leaves, StepSums& sums);

}  // namespace retort
