#include "run/call_trace.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <utility>

#include "base/unfinished_file.h"

namespace retort {
namespace {

struct Call {
  int process = 0;
  std::string name, arguments, result;
};

// strace escapes as C does, with octal numbers.
std::string unescaped(std::string_view text) {
  constexpr std::string_view kLetters = "ntrvf", kBytes = "\n\t\r\v\f";
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      plain += text[i];
      continue;
    }
    const char next = text[++i];
    if (const auto letter = kLetters.find(next); letter != kLetters.npos) {
      plain += kBytes[letter];
    } else if (next >= '0' && next <= '7') {
      int value = 0;
      size_t digits = 0;
      for (; digits < 3 && i + digits < text.size() && text[i + digits] >= '0' && text[i + digits] <= '7';
           ++digits)
        value = 8 * value + (text[i + digits] - '0');
      i += digits - 1;
      plain += static_cast<char>(value);
    } else {
      plain += next;
    }
  }
  return plain;
}

// Where the bracket at `begin` is closed; quoted texts, and paths in <>, hold any sign.
size_t closing(std::string_view text, size_t begin) {
  int depth = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      for (++i; i < text.size() && text[i] != '"'; ++i)
        if (text[i] == '\\') ++i;
    } else if (c == '<' && text.substr(i, 2) == "<<") {
      ++i;
    } else if (c == '<') {
      i = text.find('>', i);
      if (i == text.npos) return i;
    } else if (c == '(' || c == '[' || c == '{') {
      ++depth;
    } else if (c == ')' || c == ']' || c == '}') {
      if (--depth == 0) return i;
    }
  }
  return text.npos;
}

std::optional<Call> call_of(int process, std::string_view text) {
  const auto open = text.find('(');
  if (open == text.npos) return std::nullopt;
  const auto end = closing(text, open);
  if (end == text.npos) return std::nullopt;
  const auto equals = text.find("= ", end);
  if (equals == text.npos) return std::nullopt;
  return Call{process, std::string(text.substr(0, open)), std::string(text.substr(open + 1, end - open - 1)),
              std::string(text.substr(equals + 2))};
}

// A call that another process interrupts stands in two lines.
std::vector<Call> calls_of(std::string_view text) {
  constexpr std::string_view kUnfinished = "<unfinished ...>", kResumed = " resumed>";
  std::vector<Call> calls;
  std::map<int, std::string> begun;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    int process = 0;
    const auto number = std::from_chars(line.data(), line.data() + line.size(), process);
    if (number.ec != std::errc()) continue;
    line.remove_prefix(static_cast<size_t>(number.ptr - line.data()));
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (line.ends_with(kUnfinished)) {
      begun[process] = line.substr(0, line.size() - kUnfinished.size());
      continue;
    }
    std::string whole(line);
    if (line.starts_with("<... ")) {
      const auto resumed = line.find(kResumed);
      const auto first = begun.find(process);
      if (resumed == line.npos || first == begun.end()) continue;
      whole = first->second + std::string(line.substr(resumed + kResumed.size()));
      begun.erase(first);
    }
    if (auto call = call_of(process, whole)) calls.push_back(std::move(*call));
  }
  return calls;
}

std::string first_quoted(std::string_view arguments) {
  const auto begin = arguments.find('"');
  if (begin == arguments.npos) return "";
  size_t end = begin + 1;
  while (end < arguments.size() && arguments[end] != '"') end += arguments[end] == '\\' ? 2 : 1;
  return unescaped(arguments.substr(begin + 1, std::min(end, arguments.size()) - begin - 1));
}

bool starts_process(const std::string& name) {
  return name == "clone" || name == "clone3" || name == "fork" || name == "vfork";
}

bool opens(const std::string& name) {
  return name == "open" || name == "openat" || name == "openat2" || name == "creat";
}

int number_of(const std::string& text) {
  int number = -1;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// "4</path/of/the/file>": the kernel's own name for it, through links and whatever folder it was opened in.
std::string path_of(const Call& call) {
  const auto begin = call.result.find('<'), end = call.result.find('>');
  if (begin == std::string::npos || end == std::string::npos || end < begin)
    return first_quoted(call.arguments);
  auto path = unescaped(call.result.substr(begin + 1, end - begin - 1));
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return path;
}

class Reader {
 public:
  explicit Reader(const std::vector<Call>& calls) {
    // A child's lines may stand before the one in which its parent hears of it.
    for (const auto& call : calls)
      if (starts_process(call.name))
        if (const int child = number_of(call.result); child > 0) parents_.emplace(child, call.process);
    for (const auto& call : calls) take(call);
  }
  CallTrace trace;

 private:
  // Whether this process is the traced program, not one that it started.
  bool own(int process) {
    if (const auto found = own_.find(process); found != own_.end()) return found->second;
    const auto parent = parents_.find(process);
    const bool is_own = parent == parents_.end() || parent->second == process || own(parent->second);
    return own_[process] = is_own;
  }

  void take(const Call& call) {
    if (call.name == "execve" || call.name == "execveat") {
      const auto program = first_quoted(call.arguments);
      if (number_of(call.result) != 0 || program == "/proc/self/exe") return;  // that one is itself
      const bool is_own = !trace.programs.empty() && program == trace.programs.front();
      own_[call.process] = is_own || trace.programs.empty();
      if (!is_own) trace.programs.push_back(program);
    } else if (call.name == "socket") {
      const auto family = call.arguments.substr(0, call.arguments.find(','));
      if (family != "AF_UNIX" && family != "AF_LOCAL") trace.sockets.insert(family);
    } else if (call.name == "connect") {
      for (const std::string family : {"AF_INET6", "AF_INET"})
        if (call.arguments.find("sa_family=" + family + ",") != std::string::npos)
          trace.sockets.insert(family);
    } else if (opens(call.name) && number_of(call.result) >= 0) {
      add(call);
    }
  }

  void add(const Call& call) {
    // Flags stand behind the name of the file, which may say anything.
    const auto quoted = call.arguments.rfind('"');
    const auto flags = quoted == std::string::npos ? call.arguments : call.arguments.substr(quoted);
    const auto has = [&](const char* flag) { return flags.find(flag) != std::string::npos; };
    if (has("O_DIRECTORY") || has("O_PATH")) return;
    const bool writes = call.name == "creat" || has("O_WRONLY") || has("O_RDWR") || has("O_CREAT");
    const bool is_own = own(call.process);
    auto& files = writes ? (is_own ? trace.written : trace.written_by_others)
                         : (is_own ? trace.read : trace.read_by_others);
    files.insert(path_of(call));
  }

  std::map<int, int> parents_;
  std::map<int, bool> own_;
};

}  // namespace

const std::vector<std::string>& strace_options() {
  static const std::vector<std::string> options = {
      "-f",   "-qq",
      "-y",   "-s",
      "4096", "--seccomp-bpf",
      "-e",   "trace=open,openat,openat2,creat,socket,connect,execve,execveat,clone,clone3,fork,vfork"};
  return options;
}

CallTrace parse_trace(std::string_view text) { return Reader(calls_of(text)).trace; }

namespace {

// libc.so.6, libtorch.so: an ending, and a number behind it.
bool is_library(std::string_view name) {
  constexpr std::string_view ending = ".so", numbered = ".so.";
  if (name.ends_with(ending)) return true;
  const auto at = name.rfind(numbered);
  if (at == name.npos) return false;
  const auto number = name.substr(at + numbered.size());
  return !number.empty() && number.find_first_not_of("0123456789.") == number.npos;
}

}  // namespace

bool is_of_the_system(const std::string& path) {
  // Of /var and /run, where people keep data too, what looking up libraries, users and hosts opens.
  for (const char* root : {"/proc/", "/sys/", "/dev/", "/etc/", "/usr/", "/lib/", "/lib64/", "/run/nscd/",
                           "/run/systemd/resolve/", "/var/cache/ldconfig/", "/var/cache/nscd/",
                           "/var/db/nscd/", "/var/lib/sss/"})
    if (path.starts_with(root)) return true;
  return is_library(std::string_view(path).substr(path.rfind('/') + 1));
}

bool is_inside(const std::string& path, const std::string& folder) {
  return path == folder || path.starts_with(folder + "/");
}

bool is_of_cache(const std::string& path, const std::string& place) {
  if (is_inside(path, place)) return true;
  if (!path.starts_with(place + ".")) return false;
  return is_unfinished(std::string_view(path).substr(0, path.find('/', place.size())));
}

}  // namespace retort
