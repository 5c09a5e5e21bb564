#include "base/machine_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>

namespace retort {

namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::optional<uint64_t> number_in(const fs::path& file) {
  std::istringstream text(text_of(file));
  uint64_t value = 0;
  return text >> value ? std::optional(value) : std::nullopt;  // "max" is no number
}

// "KEY 123" or "KEY: 123" on a line of its own.
std::optional<uint64_t> value_of(const std::string& text, const std::string& key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    uint64_t value = 0;
    if (words >> word >> value && (word == key || word == key + ":")) return value;
  }
  return std::nullopt;
}

uint64_t resident(const fs::path& root) {
  std::istringstream text(text_of(root / "proc/self/statm"));
  uint64_t all = 0, pages = 0;
  text >> all >> pages;
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

// One group's room: limit - use, with droppable pages of files counted as free.
std::optional<uint64_t> room_of(const fs::path& group, const char* limit_file, const char* use_file,
                                const char* cache_key) {
  const auto limit = number_in(group / limit_file);
  if (!limit || *limit >= uint64_t{1} << 62)
    return std::nullopt;  // v1's "unlimited" is the largest page-aligned number
  auto use = number_in(group / use_file).value_or(0);
  use -= std::min(use, value_of(text_of(group / "memory.stat"), cache_key).value_or(0));
  return *limit - std::min(*limit, use);
}

}  // namespace

MachineMemory machine_memory(const fs::path& root) {
  MachineMemory found{std::numeric_limits<uint64_t>::max(), "nothing"};
  const auto own = resident(root);
  const auto bound = [&](std::optional<uint64_t> room, const std::string& by) {
    if (room && *room + own < found.available) found = {*room + own, by};
  };
  if (const auto free = value_of(text_of(root / "proc/meminfo"), "MemAvailable"))
    bound(*free * 1024, "MemAvailable");

  // "0::/a/b" (v2) or "7:memory:/a/b" (v1): every group up to the root may have a limit.
  std::istringstream groups(text_of(root / "proc/self/cgroup"));
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool v2 = controllers.empty();
    if (!v2 && controllers != "memory") continue;
    const auto top = root / (v2 ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    for (auto path = fs::path(line.substr(second + 1)).relative_path();; path = path.parent_path()) {
      const auto group = path.empty() ? top : top / path;
      bound(v2 ? room_of(group, "memory.max", "memory.current", "inactive_file")
               : room_of(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            (group / (v2 ? "memory.max" : "memory.limit_in_bytes")).string());
      if (path.empty()) break;
    }
  }
  return found;
}

HeldBytes held_bytes() {
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  uint64_t all = 0, resident = 0, of_files = 0;
  if (std::ifstream file("/proc/self/statm"); !(file >> all >> resident >> of_files)) return {};
  return {(resident - std::min(resident, of_files)) * page, of_files * page};
}

uint64_t resident_bytes() {
  const auto held = held_bytes();
  return held.own + held.of_files;
}

uint64_t peak_resident_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace retort
