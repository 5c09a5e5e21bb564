// Ranks that MPI started: mpirun, or what speaks its protocol.
#pragma once
#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/peers.h"

namespace retort {

class MpiPeers : public Peers {
 public:
  // All ranks call it at their end; afterwards none may send.
  virtual void leave() = 0;
  // Ends all ranks, now.
  [[noreturn]] virtual void end_all(Exit exit) = 0;
};

// Joins the other ranks. From then on one of which nothing is heard for `patience`, because it was stopped or
// its network is gone, ends all ranks with exit code 3 and one line that names it.
std::unique_ptr<MpiPeers> join_ranks(std::chrono::duration<double> patience);

}  // namespace retort
