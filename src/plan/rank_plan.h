// A training by several ranks, before it runs: what goes between them in a step, how long a step takes, and
// what each machine holds. Arithmetic alone: it follows train/step.cpp (who sums when) and base/peers.cpp
// (the tree of a broadcast).
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace retort {

// Bytes that a rank keeps besides: the gradients of its part of a step's forests, which wait for the sums of
// the ranks before, these sums and the message that brings them. Rank 0 sends a message alone.
uint64_t sums_of_rank(int64_t rank, int64_t ranks, int64_t forests, int64_t trainable_elements);

// A step as one rank does it alone.
struct LoneStep {
  int64_t forests = 1;           // of equal work
  int64_t most_forests = 0;      // of the step that has most: memory is there for that one; 0: as many
  int64_t threads = 1;           // of a rank (train.threads); each has a forest at work
  double seconds = 0;            // forward and backward of all forests
  double undivided_seconds = 0;  // cutting the step into forests, the update: every rank does these
  double tokens = 0;
  int64_t trainable_elements = 0;
};

struct BytesOfRank {
  uint64_t own = 0;     // of each rank, without its sums
  uint64_t shared = 0;  // pages of files, which the ranks of a machine have once
};

struct RankMachine {
  std::string name;
  int64_t ranks = 0;  // there; 0: as many as are best
  int64_t threads = 1;
  uint64_t memory = 0;  // that ranks may take
  double link = 0;      // bytes a second, each way
  double latency = 0;   // seconds of a message
  double copying = 0;   // bytes a second that one thread reads and writes
};

// One of the machines that ranks run on. Seconds are of a step, and the mean of its ranks.
struct MachinePlan {
  std::string name;
  int64_t first = 0, ranks = 0;   // of its ranks the lowest, and how many
  uint64_t memory = 0, room = 0;  // what they need together, and what they may take
  double sent = 0, received = 0;  // bytes of a step over its link
  double computing = 0, sums = 0, waiting = 0;
};

struct RankPlan {
  std::vector<MachinePlan> machines;  // those with ranks
  int64_t ranks = 0;
  double seconds = 0;  // of a step
  double moved = 0;    // bytes of a step between ranks, also those of one machine
  double tokens_per_second = 0;
  double speed_up = 1;  // against one rank alone
  double efficiency() const { return ranks > 0 ? speed_up / static_cast<double>(ranks) : 0; }
  bool fits() const;  // the memory of each machine
};

// Bytes of a step's sums, which ranks hand on. A head of some hundred bytes comes before them.
double message_bytes(const LoneStep& step);

// Every machine's `ranks` are those that it has; they are counted along the list, as mpirun fills machines.
RankPlan plan_ranks(const LoneStep& step, const std::vector<RankMachine>& machines, const BytesOfRank& bytes);

// The same with the numbers of ranks that make the shortest step, of which each machine's memory has room and
// each thread a core. Machines whose `ranks` are said keep those. Tried are the first so many machines of the
// list with at most so many ranks each; nothing where no machine has room for one rank.
std::optional<RankPlan> best_ranks(const LoneStep& step, const std::vector<RankMachine>& machines,
                                   const BytesOfRank& bytes);

// What a list of machines comes to.
struct RankPlans {
  std::optional<RankPlan> planned;  // with the list's numbers of ranks, where it says each
  std::optional<RankPlan> best;
  std::vector<std::pair<int64_t, RankPlan>> first_machines;  // the first 1, 2, 4, ... of the list and all
  const RankPlan* shown() const { return planned ? &*planned : best ? &*best : nullptr; }
};
RankPlans plan_machines(const LoneStep& step, const std::vector<RankMachine>& machines,
                        const BytesOfRank& bytes);

}  // namespace retort
