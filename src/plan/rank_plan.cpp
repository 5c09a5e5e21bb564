#include "plan/rank_plan.h"

#include <algorithm>

#include "base/peers.h"

namespace retort {
namespace {

// A message is read and written once where its numbers are gathered into it, and again where they are taken
// out; to add a forest's gradients two are read and one is written.
constexpr double kPacking = 2, kAdding = 3;

double rounds(int64_t forests, int64_t abreast) {
  return static_cast<double>((forests + abreast - 1) / abreast);
}

uint64_t bytes_on_machine(const LoneStep& step, const BytesOfRank& bytes, int64_t first, int64_t ranks,
                          int64_t all) {
  const auto sums = [&](int64_t rank) {
    return sums_of_rank(rank, all, std::max(step.forests, step.most_forests), step.trainable_elements);
  };
  auto sum = bytes.shared + static_cast<uint64_t>(ranks) * (bytes.own + sums(1));
  if (first == 0 && ranks > 0) sum -= sums(1) - sums(0);
  return sum;
}

// A step on its way: when each rank is ready for what comes next, and what its seconds went into.
class Walk {
 public:
  Walk(const LoneStep& step, const std::vector<RankMachine>& machines)
      : step_(step), machines_(machines), links_(machines.size()), message_(message_bytes(step)) {
    for (size_t m = 0; m < machines.size(); ++m)
      for (int64_t i = 0; i < machines[m].ranks; ++i) ranks_.push_back({.machine = m});
  }

  // Seconds of the step. What comes before a sum: the ranks' forests; behind it: the update, and the word of
  // all ranks before the next step, whether one was asked to stop.
  double go() {
    const auto last = count() - 1;
    for (int64_t rank = 0; rank <= last; ++rank) compute(rank);
    for (int64_t rank = 0; rank <= last; ++rank) {
      if (rank > 0) {
        transfer(rank - 1, rank);
        sum(rank, kPacking + kAdding * static_cast<double>(forests_of(rank)));
      }
      if (rank < last) sum(rank, kPacking);
    }
    if (last > 0) give_to_all(last);
    double end = 0;
    for (auto& rank : ranks_) {
      rank.computing += step_.undivided_seconds;
      end = std::max(end, rank.now + step_.undivided_seconds);
    }
    return end + word();
  }

  struct OfRank {
    size_t machine = 0;
    double now = 0, computing = 0, sums = 0;
  };
  struct OfLink {
    double sent = 0, received = 0;  // bytes
  };
  const std::vector<OfRank>& ranks() const { return ranks_; }
  const OfLink& link(size_t machine) const { return links_[machine]; }

 private:
  int64_t count() const { return static_cast<int64_t>(ranks_.size()); }
  OfRank& at(int64_t rank) { return ranks_[static_cast<size_t>(rank)]; }
  const RankMachine& machine_of(int64_t rank) { return machines_[at(rank).machine]; }
  int64_t forests_of(int64_t rank) const { return share_of_rank(0, step_.forests, rank, count()).size(); }

  // Where a machine's ranks have more threads than it has, these take turns.
  void compute(int64_t rank) {
    const auto& machine = machine_of(rank);
    const auto abreast = std::min(step_.threads, step_.forests);
    const auto turns = std::max(
        1.0, static_cast<double>(machine.ranks * step_.threads) / static_cast<double>(machine.threads));
    const auto of_forest = step_.seconds / rounds(step_.forests, abreast) * turns;
    at(rank).now = at(rank).computing = rounds(forests_of(rank), abreast) * of_forest;
  }

  void sum(int64_t rank, double times) {
    const auto seconds = times * message_ / machine_of(rank).copying;
    at(rank).now += seconds;
    at(rank).sums += seconds;
  }

  // Two messages, head and numbers. Both ranks wait for each other. No two messages at a time are on a
  // machine's link in one direction: its ranks are neighbours, and so are those that a level of the tree
  // joins.
  void transfer(int64_t from, int64_t to) {
    auto &giver = at(from), &taker = at(to);
    const auto &left = machine_of(from), &right = machine_of(to);
    const auto begin = std::max(giver.now, taker.now);
    auto seconds = 2 * std::max(left.latency, right.latency);
    if (giver.machine == taker.machine) {
      seconds += kPacking * message_ / left.copying;  // through memory
    } else {
      seconds += message_ / std::min(left.link, right.link);
      links_[giver.machine].sent += message_;
      links_[taker.machine].received += message_;
    }
    giver.now = taker.now = begin + seconds;
    giver.sums += seconds;
    taker.sums += seconds;
  }

  // broadcast() of base/peers.cpp: places are counted from the root; each hands on what it has, first to the
  // place that is farthest.
  void give_to_all(int64_t root) {
    const auto rank_at = [&](int64_t place) { return (place + root) % count(); };
    sum(root, kPacking);
    int64_t bit = 1;
    while (bit < count()) bit <<= 1;
    for (bit >>= 1; bit > 0; bit >>= 1)
      for (int64_t place = 0; place + bit < count(); place += 2 * bit)
        transfer(rank_at(place), rank_at(place + bit));
    for (int64_t place = 1; place < count(); ++place) sum(rank_at(place), kPacking);
  }

  // any_of(): rank 0 hears each of the others, and answers along the tree.
  double word() {
    double seconds = 0, longest = 0;
    for (int64_t rank = 1; rank < count(); ++rank) {
      const auto one = std::max(machine_of(0).latency, machine_of(rank).latency);
      seconds += one;
      longest = std::max(longest, one);
    }
    for (int64_t reached = 1; reached < count(); reached *= 2) seconds += longest;
    return seconds;
  }

  const LoneStep& step_;
  const std::vector<RankMachine>& machines_;
  std::vector<OfRank> ranks_;
  std::vector<OfLink> links_;
  const double message_;
};

int64_t sum_of(const std::vector<int64_t>& ranks) {
  int64_t sum = 0;
  for (const auto one : ranks) sum += one;
  return sum;
}

// Takes ranks away until those that are left fit, from machines that have too many.
void take_what_fits(const LoneStep& step, const std::vector<RankMachine>& machines, const BytesOfRank& bytes,
                    std::vector<int64_t>& ranks) {
  for (bool changed = true; changed;) {
    changed = false;
    const auto all = sum_of(ranks);
    int64_t first = 0;
    for (size_t m = 0; m < ranks.size(); ++m) {
      const auto here = ranks[m];
      if (machines[m].ranks == 0 && here > 0 &&
          bytes_on_machine(step, bytes, first, here, all) > machines[m].memory) {
        --ranks[m];
        changed = true;
      }
      first += here;
    }
  }
}

std::vector<RankMachine> with_ranks(std::vector<RankMachine> machines, const std::vector<int64_t>& ranks) {
  for (size_t m = 0; m < machines.size(); ++m) machines[m].ranks = m < ranks.size() ? ranks[m] : 0;
  return machines;
}

bool all_say_ranks(const std::vector<RankMachine>& machines) {
  return std::all_of(machines.begin(), machines.end(), [](const auto& machine) { return machine.ranks > 0; });
}

}  // namespace

uint64_t sums_of_rank(int64_t rank, int64_t ranks, int64_t forests, int64_t trainable_elements) {
  if (ranks <= 1) return 0;
  const auto one = 4 * static_cast<uint64_t>(trainable_elements);
  const auto own = static_cast<uint64_t>((forests + ranks - 1) / ranks);
  return rank == 0 ? one : (own + 2) * one;
}

double message_bytes(const LoneStep& step) { return 4 * static_cast<double>(step.trainable_elements); }

bool RankPlan::fits() const {
  return std::all_of(machines.begin(), machines.end(),
                     [](const MachinePlan& machine) { return machine.memory <= machine.room; });
}

RankPlan plan_ranks(const LoneStep& step, const std::vector<RankMachine>& machines,
                    const BytesOfRank& bytes) {
  RankPlan plan;
  Walk walk(step, machines);
  plan.seconds = walk.go();
  plan.ranks = static_cast<int64_t>(walk.ranks().size());
  int64_t first = 0;
  for (size_t m = 0; m < machines.size(); ++m) {
    const auto& machine = machines[m];
    if (machine.ranks == 0) continue;
    MachinePlan here;
    here.name = machine.name;
    here.first = first, here.ranks = machine.ranks;
    here.memory = bytes_on_machine(step, bytes, first, machine.ranks, plan.ranks);
    here.room = machine.memory;
    here.sent = walk.link(m).sent, here.received = walk.link(m).received;
    const auto share = 1 / static_cast<double>(machine.ranks);
    for (auto rank = first; rank < first + machine.ranks; ++rank) {
      const auto& one = walk.ranks()[static_cast<size_t>(rank)];
      here.computing += share * one.computing;
      here.sums += share * one.sums;
    }
    here.waiting = std::max(0.0, plan.seconds - here.computing - here.sums);
    first += machine.ranks;
    plan.machines.push_back(std::move(here));
  }
  plan.moved = 2 * static_cast<double>(plan.ranks - 1) * message_bytes(step);  // along the chain, and back
  if (plan.seconds > 0) {
    plan.tokens_per_second = step.tokens / plan.seconds;
    plan.speed_up = (step.seconds + step.undivided_seconds) / plan.seconds;
  }
  return plan;
}

std::optional<RankPlan> best_ranks(const LoneStep& step, const std::vector<RankMachine>& machines,
                                   const BytesOfRank& bytes) {
  std::optional<RankPlan> best;
  int64_t most = 1;
  for (const auto& machine : machines) most = std::max(most, machine.threads / step.threads);
  for (size_t used = 1; used <= machines.size(); ++used)
    for (int64_t each = 1; each <= most; ++each) {
      std::vector<int64_t> ranks;
      for (size_t m = 0; m < machines.size(); ++m) {
        const auto& machine = machines[m];
        ranks.push_back(machine.ranks > 0 ? machine.ranks
                        : m < used        ? std::min(each, machine.threads / step.threads)
                                          : 0);
      }
      take_what_fits(step, machines, bytes, ranks);
      const auto all = sum_of(ranks);
      bool cut = true;  // every machine whose number is free
      for (size_t m = 0; m < used; ++m) cut = cut && (machines[m].ranks > 0 || ranks[m] < each);
      if (all == 0 && cut) break;
      if (all == 0) continue;
      if (best && all > step.forests) break;  // ranks beyond the forests have nothing to do
      auto plan = plan_ranks(step, with_ranks(machines, ranks), bytes);
      if (!best || plan.seconds < best->seconds) best = std::move(plan);
      if (cut) break;  // more need more memory still
    }
  return best;
}

RankPlans plan_machines(const LoneStep& step, const std::vector<RankMachine>& machines,
                        const BytesOfRank& bytes) {
  RankPlans plans;
  const bool said = all_say_ranks(machines);
  if (said) plans.planned = plan_ranks(step, machines, bytes);
  plans.best = best_ranks(step, said ? with_ranks(machines, {}) : machines, bytes);
  const auto all = static_cast<int64_t>(machines.size());
  for (int64_t count = 1; all > 1; count = std::min(2 * count, all)) {
    const std::vector<RankMachine> first(machines.begin(), machines.begin() + count);
    if (said) plans.first_machines.emplace_back(count, plan_ranks(step, first, bytes));
    else if (auto plan = best_ranks(step, first, bytes))
      plans.first_machines.emplace_back(count, std::move(*plan));
    if (count == all) break;
  }
  return plans;
}

}  // namespace retort
