#include "ranks/mpi_peers.h"

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "base/tell.h"

namespace retort {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr int kMeet = 1, kBytes = 2, kAlive = 3;    // tags
constexpr size_t kPiece = size_t{256} << 20;        // MPI counts in int
constexpr std::chrono::seconds kBeat{1};            // between two signs of life
constexpr milliseconds kIdle{20}, kWaiting{1};      // between two looks at what has come
constexpr milliseconds kSoon{2};                    // a peer that comes within it is looked for more often
constexpr double kAfterRankZero = 2, kLongest = 8;  // s: rank 0 speaks first of one that is lost

// One message of this rank. Both sides first tell each other that they are there: until then they look at
// times, from then on without a pause.
struct Transfer {
  bool sends;
  int peer;
  std::byte* bytes;
  size_t size;
  size_t moved = 0;
  bool met = false, done = false;
};

// One thread makes all calls of MPI, so that signs of life come whatever the others are doing.
class RanksByMpi final : public MpiPeers {
 public:
  explicit RanksByMpi(std::chrono::duration<double> patience)
      : patience_(patience), thread_([this] { loop(); }) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return joined_; });
  }
  // Where leave() was not called, the process is ending by an error: there is nothing to wait for.
  ~RanksByMpi() override {
    if (!thread_.joinable()) return;
    end_all(Exit::machine_failed);
  }

  int64_t rank() const override { return rank_; }
  int64_t count() const override { return count_; }
  std::string name(int64_t rank) const override {
    return fmt::format("rank {} on {}", rank, hosts_[static_cast<size_t>(rank)]);
  }
  int64_t first_on_machine(int64_t rank) const override { return firsts_[static_cast<size_t>(rank)]; }
  void send(int64_t to, std::span<const std::byte> bytes) override {
    // MPI reads them only.
    exchange({true, static_cast<int>(to), const_cast<std::byte*>(bytes.data()), bytes.size()});
  }
  void receive(int64_t from, std::span<std::byte> bytes) override {
    exchange({false, static_cast<int>(from), bytes.data(), bytes.size()});
  }
  void leave() override {
    {
      const std::lock_guard lock(mutex_);
      leaving_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  [[noreturn]] void end_all(Exit exit) override {
    {
      const std::lock_guard lock(mutex_);
      ended_ = exit;
    }
    changed_.notify_all();
    for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));  // MPI ends the process
  }

 private:
  void exchange(Transfer message) {
    if (message.size == 0) return;  // the other side knows as much
    std::unique_lock lock(mutex_);
    if (message_) throw std::logic_error("one message of a rank at a time");
    message_ = &message;
    changed_.notify_all();
    changed_.wait(lock, [&] { return message.done; });
  }

  // Errors of MPI end all ranks: a message that is lost cannot be had again.
  void check(int code, int peer, const char* doing) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING + 1] = {};
    int length = 0;
    MPI_Error_string(code, text, &length);
    lost(peer, fmt::format("{} failed: {}", doing, printable(text)));
  }
  [[noreturn]] void lost(int peer, const std::string& why) {
    tell(fmt::format("retort-ranks: {}: {}; all ranks end, and the same command goes on from what is saved",
                     name(peer), why));
    abort(Exit::machine_failed);
  }
  [[noreturn]] static void abort(Exit exit) {
    MPI_Abort(MPI_COMM_WORLD, static_cast<int>(exit));
    std::_Exit(static_cast<int>(exit));
  }

  void join() {
    int level = 0, size = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &count_);
    char host[MPI_MAX_PROCESSOR_NAME + 1] = {};
    MPI_Get_processor_name(host, &size);
    constexpr size_t kHost = sizeof host;
    std::vector<char> all(kHost * static_cast<size_t>(count_));
    MPI_Allgather(host, static_cast<int>(kHost), MPI_CHAR, all.data(), static_cast<int>(kHost), MPI_CHAR,
                  MPI_COMM_WORLD);
    for (size_t i = 0; i < static_cast<size_t>(count_); ++i)
      hosts_.push_back(printable(all.data() + kHost * i));
    MPI_Comm beside = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &beside);
    int first = rank_;
    MPI_Allreduce(&rank_, &first, 1, MPI_INT, MPI_MIN, beside);
    MPI_Comm_free(&beside);
    firsts_.resize(static_cast<size_t>(count_));
    MPI_Allgather(&first, 1, MPI_INT, firsts_.data(), 1, MPI_INT, MPI_COMM_WORLD);
    MPI_Comm_dup(MPI_COMM_WORLD, &alive_);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_set_errhandler(alive_, MPI_ERRORS_RETURN);
    heard_.assign(static_cast<size_t>(count_), Clock::now());
    beats_.assign(static_cast<size_t>(count_), MPI_REQUEST_NULL);
    last_look_ = Clock::now();
    const std::lock_guard lock(mutex_);
    joined_ = true;
    changed_.notify_all();
  }

  void loop() {
    join();
    for (auto since = Clock::now();;) {
      beat();
      Transfer* message = nullptr;
      {
        std::unique_lock lock(mutex_);
        if (!message_ && !leaving_ && !ended_)
          changed_.wait_for(lock, kIdle, [&] { return message_ || leaving_ || ended_; });
        if (ended_) abort(*ended_);
        if (!message_ && leaving_) break;
        if (message_ && !message_->met && !meeting_) since = Clock::now();
        message = message_;
      }
      if (message) {
        if (move(*message)) finish(*message);  // from here on it may be gone
        else if (message->met) std::this_thread::yield();
        else if (Clock::now() - since < kSoon) std::this_thread::sleep_for(microseconds(20));
        else std::this_thread::sleep_for(kWaiting);
      }
    }
    // Nobody leaves while another may still need a sign of life.
    MPI_Request all = MPI_REQUEST_NULL;
    check(MPI_Ibarrier(MPI_COMM_WORLD, &all), rank_, "the end");
    for (int done = 0; !done;) {
      beat();
      check(MPI_Test(&all, &done, MPI_STATUS_IGNORE), rank_, "the end");
      if (!done) std::this_thread::sleep_for(kWaiting);
    }
    for (auto& sent : beats_)
      if (sent != MPI_REQUEST_NULL) MPI_Request_free(&sent);
    MPI_Finalize();
  }

  void finish(Transfer& message) {
    const std::lock_guard lock(mutex_);
    message_ = nullptr;
    meeting_ = false;
    message.done = true;
    changed_.notify_all();
  }

  // A step of a message; true when nothing of it is left.
  bool move(Transfer& message) {
    if (!message.met) {
      if (!meeting_) {
        meeting_ = true;
        check(MPI_Irecv(&theirs_, 1, MPI_CHAR, message.peer, kMeet, MPI_COMM_WORLD, &meet_[0]), message.peer,
              "receiving");
        check(MPI_Isend(&mine_, 1, MPI_CHAR, message.peer, kMeet, MPI_COMM_WORLD, &meet_[1]), message.peer,
              "sending");
      }
      int there = 0;
      check(MPI_Testall(2, meet_, &there, MPI_STATUSES_IGNORE), message.peer, "meeting");
      if (!there) return false;
      message.met = true;
    }
    const auto count = static_cast<int>(std::min(kPiece, message.size - message.moved));
    if (piece_ == MPI_REQUEST_NULL) {
      auto* at = message.bytes + message.moved;
      check(message.sends ? MPI_Isend(at, count, MPI_BYTE, message.peer, kBytes, MPI_COMM_WORLD, &piece_)
                          : MPI_Irecv(at, count, MPI_BYTE, message.peer, kBytes, MPI_COMM_WORLD, &piece_),
            message.peer, message.sends ? "sending" : "receiving");
    }
    int done = 0;
    check(MPI_Test(&piece_, &done, MPI_STATUS_IGNORE), message.peer, message.sends ? "sending" : "receiving");
    if (!done) return false;
    piece_ = MPI_REQUEST_NULL;
    message.moved += static_cast<size_t>(count);
    return message.moved == message.size;
  }

  // Gives and takes signs of life.
  void beat() {
    const auto now = Clock::now();
    // Where this process itself was stopped, the others' silence is its own.
    if (now - last_look_ > kBeat)
      for (auto& heard : heard_) heard += now - last_look_;
    last_look_ = now;
    for (int there = 1; there;) {
      MPI_Status status;
      check(MPI_Iprobe(MPI_ANY_SOURCE, kAlive, alive_, &there, &status), rank_, "looking for signs of life");
      if (!there) break;
      char sign = 0;
      check(MPI_Recv(&sign, 1, MPI_CHAR, status.MPI_SOURCE, kAlive, alive_, MPI_STATUS_IGNORE),
            status.MPI_SOURCE, "receiving");
      heard_[static_cast<size_t>(status.MPI_SOURCE)] = now;
    }
    if (now >= next_beat_) {
      next_beat_ = now + kBeat;
      for (int peer = 0; peer < count_; ++peer) {
        auto& sent = beats_[static_cast<size_t>(peer)];
        int gone = 1;
        if (sent != MPI_REQUEST_NULL) check(MPI_Test(&sent, &gone, MPI_STATUS_IGNORE), peer, "sending");
        if (peer != rank_ && gone)
          check(MPI_Isend(&mine_, 1, MPI_CHAR, peer, kAlive, alive_, &sent), peer, "sending");
      }
    }
    const std::chrono::duration<double> later(rank_ == 0 ? 0
                                                         : std::min(kLongest, kAfterRankZero + 0.1 * rank_));
    for (int peer = 0; peer < count_; ++peer) {
      const std::chrono::duration<double> silent = now - heard_[static_cast<size_t>(peer)];
      if (peer != rank_ && silent > patience_ + later)
        lost(peer, fmt::format("nothing was heard of it for {:.0f} s", silent.count()));
    }
  }

  const std::chrono::duration<double> patience_;
  int rank_ = 0, count_ = 1;
  std::vector<std::string> hosts_;
  std::vector<int> firsts_;  // of each rank the lowest one on its machine

  std::mutex mutex_;
  std::condition_variable changed_;
  bool joined_ = false, leaving_ = false;
  std::optional<Exit> ended_;
  Transfer* message_ = nullptr;

  // Of the thread.
  MPI_Comm alive_ = MPI_COMM_NULL;
  MPI_Request meet_[2] = {MPI_REQUEST_NULL, MPI_REQUEST_NULL}, piece_ = MPI_REQUEST_NULL;
  bool meeting_ = false;
  char mine_ = 1, theirs_ = 0;
  std::vector<MPI_Request> beats_;
  std::vector<Clock::time_point> heard_;
  Clock::time_point last_look_, next_beat_{};
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace

std::unique_ptr<MpiPeers> join_ranks(std::chrono::duration<double> patience) {
  return std::make_unique<RanksByMpi>(patience);
}

}  // namespace retort
