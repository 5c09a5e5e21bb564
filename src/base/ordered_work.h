// A stream of work for several threads. Each piece is done by some thread; what it leaves to do then is done
// by the caller's thread in the order in which the pieces came, so that results do not depend on how many
// threads there are.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace retort {

// Hardware threads this process may use (its affinity mask), at least 1: what 0 in a spec means.
int64_t usable_threads(int64_t wanted);

class OrderedWork {
 public:
  using Later = std::function<void()>;
  using Piece = std::function<Later()>;

  // At most `most_pending` pieces are begun, waiting or done and not yet taken. With one thread the caller
  // does each as it comes.
  OrderedWork(int64_t threads, size_t most_pending);
  ~OrderedWork();  // what was not taken is dropped
  OrderedWork(const OrderedWork&) = delete;
  OrderedWork& operator=(const OrderedWork&) = delete;

  // Waits, taking results, while too many are pending. Rethrows what a piece threw, in its turn.
  void add(Piece piece);
  void finish();  // takes all

 private:
  struct Slot {
    Piece piece;
    Later later;
    std::exception_ptr failure;
    bool done = false;
  };
  void work();
  void take_first();
  size_t most_pending_;
  std::mutex mutex_;
  std::condition_variable wanted_, done_;
  std::deque<std::shared_ptr<Slot>> pending_;  // in the order of the pieces; the caller's
  std::deque<std::shared_ptr<Slot>> waiting_;  // not begun
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace retort
