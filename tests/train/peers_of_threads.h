// Ranks that are threads of a test: what is sent waits until it is received; where they are to meet, as MPI's
// do, so does the one who sends.
#pragma once
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/peers.h"

namespace retort {

enum class Sending { leaves, meets };

class ThreadWorld {
 public:
  explicit ThreadWorld(int64_t count, Sending sending = Sending::leaves)
      : gone_(static_cast<size_t>(count)), sending_(sending) {}
  int64_t count() const { return static_cast<int64_t>(gone_.size()); }
  void send(int64_t from, int64_t to, std::span<const std::byte> bytes) {
    std::unique_lock lock(mutex_);
    auto& waiting = waiting_[{from, to}];
    waiting.emplace_back(bytes.begin(), bytes.end());
    changed_.notify_all();
    if (sending_ == Sending::leaves) return;
    changed_.wait(lock, [&] { return waiting.empty() || gone_[static_cast<size_t>(to)]; });
    if (!waiting.empty()) throw Failure(fmt::format("rank {} is gone", to));
  }
  void receive(int64_t from, int64_t to, std::span<std::byte> bytes) {
    std::unique_lock lock(mutex_);
    auto& waiting = waiting_[{from, to}];
    changed_.wait(lock, [&] { return !waiting.empty() || gone_[static_cast<size_t>(from)]; });
    if (waiting.empty()) throw Failure(fmt::format("rank {} is gone", from));
    const auto sent = std::move(waiting.front());
    waiting.pop_front();
    changed_.notify_all();
    if (sent.size() != bytes.size()) throw std::logic_error("two ranks speak of different things");
    std::memcpy(bytes.data(), sent.data(), sent.size());
  }
  void leave(int64_t rank) {
    const std::lock_guard lock(mutex_);
    gone_[static_cast<size_t>(rank)] = 1;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int64_t, int64_t>, std::deque<std::vector<std::byte>>> waiting_;
  std::vector<char> gone_;
  const Sending sending_;
};

class ThreadPeers final : public Peers {
 public:
  ThreadPeers(ThreadWorld& world, int64_t rank) : world_(world), rank_(rank) {}
  int64_t rank() const override { return rank_; }
  int64_t count() const override { return world_.count(); }
  std::string name(int64_t rank) const override { return fmt::format("rank {} on host {}", rank, rank + 1); }
  void send(int64_t to, std::span<const std::byte> bytes) override { world_.send(rank_, to, bytes); }
  void receive(int64_t from, std::span<std::byte> bytes) override { world_.receive(from, rank_, bytes); }

 private:
  ThreadWorld& world_;
  const int64_t rank_;
};

// Does work(peers) as so many ranks; what each has thrown, null where nothing.
inline std::vector<std::exception_ptr> as_ranks(int64_t count, const std::function<void(Peers&)>& work,
                                                Sending sending = Sending::leaves) {
  ThreadWorld world(count, sending);
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(count));
  std::vector<std::thread> threads;
  for (int64_t rank = 0; rank < count; ++rank)
    threads.emplace_back([&, rank] {
      ThreadPeers peers(world, rank);
      try {
        work(peers);
      } catch (...) { thrown[static_cast<size_t>(rank)] = std::current_exception(); }
      world.leave(rank);
    });
  for (auto& thread : threads) thread.join();
  return thrown;
}

inline std::string text_of(const std::exception_ptr& thrown) {
  if (!thrown) return "";
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) { return error.what(); }
}

}  // namespace retort
