#include "ops/team.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace retort {
namespace {

constexpr int kSpins =
    20000;  // about 100 us of pauses: longer than what lies between the products of one token

thread_local bool inside = false;

void pause() { __builtin_ia32_pause(); }

class Team {
 public:
  explicit Team(int64_t helpers) {
    for (int64_t i = 0; i < helpers; ++i) helpers_.emplace_back([this] { help(); });
  }
  ~Team() {
    stop_ = true;
    epoch_.fetch_add(1);
    epoch_.notify_all();
    for (auto& helper : helpers_) helper.join();
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  int64_t size() const { return static_cast<int64_t>(helpers_.size()) + 1; }

  void run(int64_t pieces, const std::function<void(int64_t)>& work) {
    work_ = &work;
    failure_ = nullptr;
    done_ = 0;
    const auto epoch = epoch_.load() + 1;
    ticket_.store(ticket(epoch, pieces));
    epoch_.store(epoch);
    epoch_.notify_all();
    take_pieces(epoch);
    for (int spins = 0; done_.load() < pieces;
         ++spins) {  // a helper may have lost its core to another process
      if (spins < kSpins) pause();
      else sched_yield();
    }
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  // Job, number of pieces and the next piece in one word: a helper that wakes late can never take a piece of
  // another job.
  static uint64_t ticket(uint32_t epoch, int64_t pieces) {
    return static_cast<uint64_t>(epoch) << 40 | static_cast<uint64_t>(pieces) << 20;
  }

  void take_pieces(uint32_t epoch) {
    for (auto now = ticket_.load(); now >> 40 == (epoch & 0xFFFFFF);) {
      const auto piece = static_cast<int64_t>(now & 0xFFFFF),
                 pieces = static_cast<int64_t>(now >> 20 & 0xFFFFF);
      if (piece >= pieces) return;
      if (!ticket_.compare_exchange_weak(now, now + 1)) continue;
      try {
        (*work_)(piece);
      } catch (...) {
        const std::lock_guard lock(failing_);
        if (!failure_) failure_ = std::current_exception();
      }
      done_.fetch_add(1);
      now = ticket_.load();
    }
  }

  void help() {
    at::set_num_threads(1);
    inside = true;
    for (uint32_t seen = 0;;) {
      for (int spins = 0; epoch_.load() == seen && spins < kSpins; ++spins) pause();
      epoch_.wait(seen);
      seen = epoch_.load();
      if (stop_) return;
      take_pieces(seen);
    }
  }

  std::atomic<uint32_t> epoch_ = 0;
  std::atomic<uint64_t> ticket_ = 0;
  std::atomic<int64_t> done_ = 0;
  std::atomic<bool> stop_ = false;
  const std::function<void(int64_t)>* work_ = nullptr;
  std::exception_ptr failure_;
  std::mutex failing_;
  std::vector<std::thread> helpers_;
};

}  // namespace

int64_t team_size() { return inside || at::in_parallel_region() ? 1 : at::get_num_threads(); }

void on_team(int64_t pieces, const std::function<void(int64_t)>& work) {
  if (pieces >= 1 << 20) throw std::logic_error("on_team: too many pieces");
  const auto size = team_size();
  if (size <= 1 || pieces <= 1) {
    for (int64_t i = 0; i < pieces; ++i) work(i);
    return;
  }
  thread_local std::unique_ptr<Team> team;  // helpers end with the thread that they help
  if (!team || team->size() != size) team = std::make_unique<Team>(size - 1);
  inside = true;
  try {
    team->run(pieces, work);
  } catch (...) {
    inside = false;
    throw;
  }
  inside = false;
}

void over_range(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  if (count <= 0) return;
  const auto pieces = std::clamp<int64_t>(count / std::max<int64_t>(1, grain), 1, team_size());
  if (pieces == 1) return work(0, count);
  on_team(pieces, [&](int64_t i) { work(count * i / pieces, count * (i + 1) / pieces); });
}

}  // namespace retort
