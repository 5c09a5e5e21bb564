#include "run/who.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>

#include "ops/workers.h"
#include "teacher/served_teacher.h"
#include "train/fingerprint.h"

namespace retort {

namespace {

std::string user_name(uid_t uid) {
  std::ifstream file("/etc/passwd");
  const auto wanted = std::to_string(uid);
  for (std::string line; std::getline(file, line);) {
    const auto name_end = line.find(':'), password_end = line.find(':', name_end + 1);
    if (password_end == std::string::npos) continue;
    const auto uid_end = line.find(':', password_end + 1);
    if (line.substr(password_end + 1, uid_end - password_end - 1) == wanted) return line.substr(0, name_end);
  }
  return "";
}

std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      const auto begin = line.find_first_not_of(' ', line.find(':') + 1);
      return begin == std::string::npos ? "" : line.substr(begin);
    }
  return "";
}

// What this process could reach a network by. An empty namespace has "lo" alone.
OrderedJson interfaces() {
  auto names = OrderedJson::array();
  std::ifstream file("/proc/self/net/dev");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(':');
    const auto begin = line.find_first_not_of(' ');
    if (colon != std::string::npos && begin < colon) names.push_back(line.substr(begin, colon - begin));
  }
  return names;
}

}  // namespace

OrderedJson who_and_where(const LoadedRecipe& loaded) {
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  utsname system{};
  ::uname(&system);
  const auto uid = ::geteuid();
  return {{"recipe", loaded.file},
          {"recipe_sha256", loaded.sha256},
          {"user", user_name(uid)},
          {"uid", uid},
          {"host", host},
          {"process", ::getpid()},
          {"program", fmt::format("retort {}", RETORT_VERSION)},
          {"build", build_id()},
          {"machine",
           {{"cpu", cpu_name()},
            {"threads", usable_threads(0)},
            {"memory_bytes", static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                                 static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))},
            {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)}}},
          {"network", {{"code_in_program", has_network_code()}, {"interfaces", interfaces()}}}};
}

}  // namespace retort
