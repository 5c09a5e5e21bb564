#include "run/who.h"

#include <fmt/format.h>
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

namespace {

std::string network_line(const OrderedJson& network) {
  if (!network.contains("code_in_program")) return "not recorded";
  std::string names;
  for (const auto& name : network.value("interfaces", OrderedJson::array()))
    names += (names.empty() ? "" : ", ") + name.get<std::string>();
  return fmt::format("the program has {} that opens connections; interfaces that it was shown: {}",
                     network["code_in_program"] == true ? "code" : "no code", names.empty() ? "none" : names);
}

}  // namespace

std::vector<std::pair<std::string, std::string>> beginning_of(const std::vector<LedgerEntry>& entries) {
  std::vector<std::pair<std::string, std::string>> facts;
  int64_t resumed = 0;
  std::string last;
  for (const auto& [number, before, time, event, said, hash] : entries) {
    if (event == "resumed") ++resumed, last = time;
    if (event != "started") continue;
    facts.emplace_back("Begun", time);
    facts.emplace_back("By", fmt::format("{} (uid {}) on {}", said.value("user", ""),
                                         said.value("uid", int64_t{-1}), said.value("host", "")));
    facts.emplace_back("Program",
                       fmt::format("{}, build {}", said.value("program", ""), said.value("build", "")));
    facts.emplace_back("Network", network_line(said.value("network", OrderedJson::object())));
  }
  if (resumed > 0)
    facts.emplace_back("Went on",
                       fmt::format("{} time{}, the last at {}", resumed, resumed == 1 ? "" : "s", last));
  return facts;
}

}  // namespace retort
