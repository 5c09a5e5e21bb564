// Runs the body of a kernel (kernels/threads.h) on the CPU: blocks one after the other, the threads of a
// block as fibers that change at barriers, in an order that is drawn between any two barriers. The memory
// that a block shares remembers who wrote and read what since the last barrier, and whatever depends on the
// order of threads throws: so a missing barrier is an error in every order, not a wrong number in some.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "kernels/threads.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace retort {

struct Launch {
  int64_t blocks = 1;
  int threads = 256;
  int shared_bytes = 0;
  uint64_t order = 0;    // of threads: 0 rising, 1 falling, else drawn
  int64_t without = -1;  // all threads go through this barrier, counted from 0, as if it were not there
  bool watched = true;   // whether what depends on the order of threads throws
};

// What was done with each byte of a block's shared memory since the last barrier.
class WatchedMemory {
 public:
  WatchedMemory(int bytes, bool watched) : bytes_(static_cast<size_t>(bytes) + 16), watched_(watched) {
    auto place = reinterpret_cast<uintptr_t>(bytes_.data());
    begin_ = bytes_.data() + (16 - place % 16) % 16;
    marks_.resize(static_cast<size_t>(bytes));
  }
  void start_block(uint64_t seed) {
    for (size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<std::byte>(mix_bits(seed + i));
    std::fill(marks_.begin(), marks_.end(), Mark());
    barriers_ = 0;
  }
  void pass_barrier() { ++barriers_; }

  void* write(int thread, size_t first, size_t count) {
    check(first, count);
    for (size_t i = first; watched_ && i < first + count; ++i) {
      auto& mark = marks_[i];
      if (mark.written == barriers_ && mark.writer != thread) fail(thread, "writes", i, mark.writer, "wrote");
      if (mark.read == barriers_ && (mark.reader != thread || mark.several))
        fail(thread, "writes", i, mark.reader, "read");
      mark.written = barriers_, mark.writer = thread;
    }
    return begin_ + first;
  }
  const void* read(int thread, size_t first, size_t count) {
    check(first, count);
    for (size_t i = first; watched_ && i < first + count; ++i) {
      auto& mark = marks_[i];
      if (mark.written < 0)
        throw std::runtime_error("thread " + std::to_string(thread) + " reads byte " + std::to_string(i) +
                                 " of shared memory, which nobody wrote");
      if (mark.written == barriers_ && mark.writer != thread) fail(thread, "reads", i, mark.writer, "wrote");
      if (mark.read != barriers_) mark.read = barriers_, mark.reader = thread, mark.several = false;
      else if (mark.reader != thread) mark.several = true, mark.reader = thread;
    }
    return begin_ + first;
  }

 private:
  struct Mark {
    int64_t written = -1, read = -1;  // the number of barriers before it
    int writer = -1, reader = -1;
    bool several = false;  // readers
  };
  void check(size_t first, size_t count) const {
    if (first + count > marks_.size()) throw std::runtime_error("beyond the block's shared memory");
  }
  [[noreturn]] static void fail(int thread, const char* does, size_t byte, int other, const char* did) {
    throw std::runtime_error("thread " + std::to_string(thread) + " " + does + " byte " +
                             std::to_string(byte) + " of shared memory, which thread " +
                             std::to_string(other) + " " + did + " since the last barrier");
  }

  std::vector<std::byte> bytes_;
  std::byte* begin_;
  std::vector<Mark> marks_;
  int64_t barriers_ = 0;
  bool watched_;
};

class Fibers;

template <class T> class EmulatedShared {
 public:
  EmulatedShared(WatchedMemory& memory, int thread, size_t offset, size_t count)
      : memory_(&memory), thread_(thread), offset_(offset), count_(count) {
    if (offset % alignof(T) != 0) throw std::runtime_error("shared memory at an address that is not aligned");
  }
  void put(int i, T value) const {
    std::memcpy(memory_->write(thread_, at(i, 1), sizeof(T)), &value, sizeof(T));
  }
  T get(int i) const {
    T value;
    std::memcpy(&value, memory_->read(thread_, at(i, 1), sizeof(T)), sizeof(T));
    return value;
  }
  const T* read(int first, int count) const {
    return static_cast<const T*>(
        memory_->read(thread_, at(first, count), static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  size_t at(int first, int count) const {
    if (first < 0 || static_cast<size_t>(first + count) > count_)
      throw std::runtime_error("outside of a part of shared memory");
    return offset_ + static_cast<size_t>(first) * sizeof(T);
  }
  WatchedMemory* memory_;
  int thread_;
  size_t offset_, count_;
};

class EmulatedThread {
 public:
  EmulatedThread(const Launch& launch, WatchedMemory& memory, Fibers& fibers, int64_t block, int thread)
      : launch_(launch), memory_(memory), fibers_(fibers), block_(block), thread_(thread) {}
  int thread() const { return thread_; }
  int threads() const { return launch_.threads; }
  int64_t block() const { return block_; }
  int64_t blocks() const { return launch_.blocks; }
  void barrier();
  template <class T> EmulatedShared<T> shared(int offset, int count) {
    return {memory_, thread_, static_cast<size_t>(offset), static_cast<size_t>(count)};
  }
  Words load16(const void* from) const {
    Words words;
    std::memcpy(&words, aligned(from, 16), sizeof words);
    return words;
  }
  uint32_t load_word(const void* from) const {
    uint32_t word;
    std::memcpy(&word, aligned(from, 4), sizeof word);
    return word;
  }
  void store16(void* to, const Words& words) const {
    std::memcpy(const_cast<void*>(aligned(to, 16)), &words, sizeof words);
  }
  int64_t barriers() const { return barriers_; }

 private:
  static const void* aligned(const void* address, uintptr_t by) {
    if (reinterpret_cast<uintptr_t>(address) % by != 0)
      throw std::runtime_error("an address that is no multiple of " + std::to_string(by));
    return address;
  }
  const Launch& launch_;
  WatchedMemory& memory_;
  Fibers& fibers_;
  int64_t block_;
  int thread_;
  int64_t barriers_ = 0;
};

// The threads of a block: one runs until it waits or ends, then the next. A fiber begins by setcontext();
// from then on _longjmp() changes between them, since swapcontext() asks the kernel twice each time.
// Sanitizers want to see swapcontext().
class Fibers {
 public:
  explicit Fibers(int count) : all_(static_cast<size_t>(count)) {
    for (auto& fiber : all_) fiber.stack = std::make_unique_for_overwrite<char[]>(kStack);
  }
  ~Fibers() { forget(); }
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  void start(std::function<void(int)> work) {
    work_ = std::move(work);
    forget();
    for (auto& fiber : all_) {
      fiber.begun = fiber.ended = false;
      ::getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      const auto self = reinterpret_cast<uintptr_t>(this);
      ::makecontext(&fiber.context, reinterpret_cast<void (*)()>(&Fibers::enter), 2,
                    static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
#if defined(__SANITIZE_THREAD__)
      fiber.tsan = __tsan_create_fiber(0);
#endif
    }
  }
  // Until it waits: true, or ends: false. Throws what its work threw.
  bool go_on(int which) {
    current_ = which;
    enter_current();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return !current().ended;
  }
  void wait() { leave_current(); }

 private:
  static constexpr size_t kStack = 128 << 10;
  struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool begun = false, ended = true;
    void* fake = nullptr;
    void* tsan = nullptr;
  };
  Fiber& current() { return all_[static_cast<size_t>(current_)]; }
  static void enter(unsigned high, unsigned low) {
    auto& self = *reinterpret_cast<Fibers*>(static_cast<uintptr_t>(high) << 32 | low);
    self.arrived();
    try {
      self.work_(self.current_);
    } catch (...) { self.error_ = std::current_exception(); }
    self.current().ended = true;
    self.leave_current();
  }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  void enter_current() {
    auto& fiber = current();
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber.stack.get(), kStack);
#else
    main_tsan_ = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber.tsan, 0);
#endif
    ::swapcontext(&main_, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }
  void leave_current() {
    auto& fiber = current();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fiber.ended ? nullptr : &fiber.fake, main_stack_, main_size_);
#else
    __tsan_switch_to_fiber(main_tsan_, 0);
#endif
    ::swapcontext(&fiber.context, &main_);
    arrived();
  }
  void arrived() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(current().fake, &main_stack_, &main_size_);
#endif
  }
#else
  void enter_current() {
    if (_setjmp(main_place_) != 0) return;
    if (current().begun) _longjmp(current().place, 1);
    current().begun = true;
    ::setcontext(&current().context);
  }
  void leave_current() {
    if (_setjmp(current().place) == 0) _longjmp(main_place_, 1);
  }
  void arrived() {}
#endif
  void forget() {
#if defined(__SANITIZE_THREAD__)
    for (auto& fiber : all_)
      if (fiber.tsan) __tsan_destroy_fiber(std::exchange(fiber.tsan, nullptr));
#endif
  }

  std::vector<Fiber> all_;
  std::function<void(int)> work_;
  std::exception_ptr error_;
  [[maybe_unused]] ucontext_t main_;
  jmp_buf main_place_;
  int current_ = 0;
  [[maybe_unused]] const void* main_stack_ = nullptr;
  [[maybe_unused]] size_t main_size_ = 0;
  [[maybe_unused]] void* main_tsan_ = nullptr;
};

inline void EmulatedThread::barrier() {
  if (barriers_++ == launch_.without) return;
  fibers_.wait();
}

// Calls body(thread) for every thread of every block. Returns the largest number of barriers of a block.
template <class Body> int64_t run_blocks(const Launch& launch, const Body& body) {
  WatchedMemory memory(launch.shared_bytes, launch.watched);
  Fibers fibers(launch.threads);
  int64_t most = 0;
  std::vector<int> order(static_cast<size_t>(launch.threads));
  for (int64_t block = 0; block < launch.blocks; ++block) {
    std::vector<EmulatedThread> threads;
    for (int i = 0; i < launch.threads; ++i) threads.emplace_back(launch, memory, fibers, block, i);
    memory.start_block(launch.order + static_cast<uint64_t>(block));
    fibers.start([&](int i) { body(threads[static_cast<size_t>(i)]); });
    for (uint64_t stretch = 0;; ++stretch) {
      std::iota(order.begin(), order.end(), 0);
      if (launch.order == 1) std::reverse(order.begin(), order.end());
      const Draws draws(launch.order, "threads", static_cast<uint64_t>(block) << 32 | stretch);
      for (auto i = order.size() - 1; launch.order > 1 && i > 0; --i)
        std::swap(order[i], order[draws.below(i, i + 1)]);
      int64_t waiting = 0;
      for (const int i : order) waiting += fibers.go_on(i);
      if (waiting == 0) break;
      if (waiting < launch.threads)
        throw std::runtime_error(std::to_string(launch.threads - waiting) +
                                 " threads ended while others wait at a barrier");
      memory.pass_barrier();
    }
    for (const auto& thread : threads) most = std::max(most, thread.barriers());
  }
  return most;
}

}  // namespace retort
