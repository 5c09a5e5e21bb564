// Where the time goes: spans of work, each with the arithmetic and the memory traffic that it stands for. Off
// (as it is unless start_profile() was called), a span costs one load of a flag.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace retort {

inline std::atomic<bool> profile_is_on = false;
inline bool profiling() { return profile_is_on.load(std::memory_order_relaxed); }

// What a span stands for, without the spans inside it. Texts are literals, or live as long as the program.
struct Work {
  const char* name = "";
  const char* kind =
      "";  // "forward", "backward", "stage": the first two tell one operation's directions apart
  double flop = 0;
  double bytes = 0;     // operands and results, each counted once
  int64_t threads = 1;  // that may work on it, this one among them
};

// From its construction to its destruction, on this thread; spans nest.
class Span {
 public:
  explicit Span(const Work& work) {
    if (profiling()) begin(work);
  }
  ~Span() {
    if (open_) end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  void begin(const Work& work);
  void end();
  bool open_ = false;
};

// All spans of one name and kind.
struct WorkTotal {
  std::string name, kind;
  int64_t count = 0;
  double seconds = 0;  // less the spans inside them
  double cpu_seconds =
      0;  // the same by the CPU time of the spans' own threads, which other processes do not sway
  double thread_seconds =
      0;  // cpu_seconds times the threads that might work: what arithmetic is to be compared with
  double flop = 0, bytes = 0;
};

struct Profile {
  std::vector<WorkTotal> totals;  // by seconds, falling
  double seconds = 0;             // from start to stop
  int64_t lanes = 0;              // threads that had spans at the same time
  int64_t spans = 0, traced = 0;  // all, and those whose times are kept for the trace
};

// Begins with nothing; `traced`: spans kept one by one at most (72 bytes each), sums go on beyond.
void start_profile(int64_t traced = int64_t{1} << 20);
// Ends it. No other thread has an open span then.
Profile stop_profile();
// The kept spans as a Chrome trace (chrome://tracing, ui.perfetto.dev): one object, complete events,
// microseconds since the start.
std::string trace_json();

}  // namespace retort
