#include "base/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

namespace retort {
namespace {

double seconds_of(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Traced {
  Work work;
  int32_t lane;
  double start, duration;  // seconds since the profile's start
};

// Equal literals of two files have two addresses.
struct Key {
  std::string_view name, kind;
  auto operator<=>(const Key&) const = default;
};

struct Sum {
  int64_t count = 0;
  double seconds = 0, cpu_seconds = 0, thread_seconds = 0, flop = 0, bytes = 0;
  void add(const Sum& other) {
    count += other.count;
    seconds += other.seconds, cpu_seconds += other.cpu_seconds, thread_seconds += other.thread_seconds;
    flop += other.flop, bytes += other.bytes;
  }
};

struct Open {
  Work work;
  double start, cpu_start;
  double inside = 0, cpu_inside = 0;  // spans within
};

// What one thread has collected since it began, or since the profile's start.
struct Lane {
  int32_t number = 0;
  int64_t profile = 0;
  std::vector<Open> open;
  std::map<Key, Sum> sums;
  std::vector<Traced> traced;

  Lane();
  ~Lane();
};

struct Collected {
  std::mutex mutex;
  std::set<Lane*> alive;
  std::set<int32_t> taken;  // lanes of threads that are alive
  std::map<Key, Sum> sums;
  std::vector<Traced> traced;
  int64_t spans = 0;

  void take(Lane& lane) {  // with the mutex held
    for (const auto& [key, sum] : lane.sums) sums[key].add(sum), spans += sum.count;
    traced.insert(traced.end(), lane.traced.begin(), lane.traced.end());
    lane.sums.clear();
    lane.traced.clear();
  }
};

Collected& collected() {
  static auto* const all = new Collected;  // outlives the threads that end after main()
  return *all;
}

std::atomic<int64_t> profile_number = 0, room = 0;
std::atomic<double> profile_start = 0;

Lane::Lane() {
  auto& all = collected();
  const std::lock_guard lock(all.mutex);
  while (all.taken.count(number)) ++number;
  all.taken.insert(number);
  all.alive.insert(this);
}

Lane::~Lane() {
  auto& all = collected();
  const std::lock_guard lock(all.mutex);
  if (profile == profile_number.load()) all.take(*this);
  all.taken.erase(number);
  all.alive.erase(this);
}

Lane& this_lane() {
  thread_local Lane lane;
  if (const auto now = profile_number.load(); lane.profile != now) {
    lane.profile = now;
    lane.open.clear();
    lane.sums.clear();
    lane.traced.clear();
  }
  return lane;
}

}  // namespace

void Span::begin(const Work& work) {
  open_ = true;
  this_lane().open.push_back({work, seconds_of(CLOCK_MONOTONIC), seconds_of(CLOCK_THREAD_CPUTIME_ID)});
}

void Span::end() {
  auto& lane = this_lane();
  if (lane.open.empty()) return;  // begun before the profile
  const auto now = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_THREAD_CPUTIME_ID);
  const auto span = lane.open.back();
  lane.open.pop_back();
  const auto seconds = now - span.start, cpu_seconds = cpu - span.cpu_start;
  if (!lane.open.empty()) lane.open.back().inside += seconds, lane.open.back().cpu_inside += cpu_seconds;
  const auto own = cpu_seconds - span.cpu_inside;
  lane.sums[{span.work.name, span.work.kind}].add({1, seconds - span.inside, own,
                                                   own * static_cast<double>(span.work.threads),
                                                   span.work.flop, span.work.bytes});
  if (room.fetch_sub(1) > 0)
    lane.traced.push_back({span.work, lane.number, span.start - profile_start.load(), seconds});
}

void start_profile(int64_t traced) {
  auto& all = collected();
  const std::lock_guard lock(all.mutex);
  all.sums.clear();
  all.traced.clear();
  all.spans = 0;
  room = traced;
  profile_start = seconds_of(CLOCK_MONOTONIC);
  ++profile_number;
  profile_is_on = true;
}

Profile stop_profile() {
  profile_is_on = false;
  auto& all = collected();
  const std::lock_guard lock(all.mutex);
  for (auto* lane : all.alive)
    if (lane->profile == profile_number.load()) all.take(*lane);
  Profile profile;
  profile.seconds = seconds_of(CLOCK_MONOTONIC) - profile_start.load();
  profile.spans = all.spans;
  profile.traced = static_cast<int64_t>(all.traced.size());
  for (const auto& span : all.traced) profile.lanes = std::max<int64_t>(profile.lanes, span.lane + 1);
  for (const auto& [key, sum] : all.sums)
    profile.totals.push_back({std::string(key.name), std::string(key.kind), sum.count, sum.seconds,
                              sum.cpu_seconds, sum.thread_seconds, sum.flop, sum.bytes});
  std::stable_sort(profile.totals.begin(), profile.totals.end(),
                   [](const WorkTotal& a, const WorkTotal& b) { return a.seconds > b.seconds; });
  return profile;
}

std::string trace_json() {
  auto& all = collected();
  const std::lock_guard lock(all.mutex);
  auto spans = all.traced;
  std::stable_sort(spans.begin(), spans.end(),
                   [](const auto& a, const auto& b) { return a.start < b.start; });
  std::string text =
      "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{\"name\": \"process_name\", \"ph\": \"M\", "
      "\"pid\": 1, \"args\": {\"name\": \"retort\"}}";
  auto out = std::back_inserter(text);
  for (const auto& span : spans) {
    const auto& work = span.work;
    fmt::format_to(out,
                   ",\n{{\"name\": \"{}\", \"cat\": \"{}\", \"ph\": \"X\", \"pid\": 1, \"tid\": {}, \"ts\": "
                   "{:.3f}, \"dur\": {:.3f}",
                   work.name, work.kind, span.lane, 1e6 * span.start, 1e6 * span.duration);
    if (work.flop > 0 || work.bytes > 0)
      fmt::format_to(out, ", \"args\": {{\"flop\": {:.0f}, \"bytes\": {:.0f}}}", work.flop, work.bytes);
    text += '}';
  }
  return text + "\n]}\n";
}

}  // namespace retort
