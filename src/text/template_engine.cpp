#include "text/template_engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <utility>

#include "base/confine.h"
#include "base/error.h"
#include "text/template_child.h"

namespace retort {
namespace {

void put(std::string& to, uint32_t number) {
  to.append(reinterpret_cast<const char*>(&number), sizeof number);
}
void put(std::string& to, std::string_view text) {
  put(to, static_cast<uint32_t>(text.size()));
  to += text;
}

// Brackets inside {{ }} and {% %}, and blocks inside blocks: what the interpreter goes down for, level by
// level. Whatever this does not see, the child's stack does.
size_t deepest_level(std::string_view source) {
  size_t brackets = 0, blocks = 0, deepest = 0;
  for (size_t i = 0; i + 1 < source.size(); ++i) {
    if (source[i] != '{' || (source[i + 1] != '{' && source[i + 1] != '%' && source[i + 1] != '#')) continue;
    const char kind = source[i + 1];
    if (kind == '#') {
      i = std::min(source.find("#}", i + 2), source.size() - 1);
      continue;
    }
    i += 2;
    while (i < source.size() &&
           (source[i] == '-' || source[i] == '+' || std::isspace(static_cast<unsigned char>(source[i]))))
      ++i;
    if (kind == '%') {
      const auto word = source.substr(i, 8);
      if (word.starts_with("end")) blocks -= blocks > 0;
      else if (word.starts_with("if") || word.starts_with("for") || word.starts_with("macro")) ++blocks;
    }
    brackets = 0;
    char quote = 0;
    for (; i < source.size(); ++i) {
      const char c = source[i];
      if (quote) {
        if (c == '\\') ++i;
        else if (c == quote) quote = 0;
      } else if (c == '\'' || c == '"') {
        quote = c;
      } else if (c == '(' || c == '[' || c == '{') {
        deepest = std::max(deepest, blocks + ++brackets);
      } else if (brackets > 0 && (c == ')' || c == ']' || c == '}')) {
        --brackets;
      } else if ((c == '}' || c == '%') && i + 1 < source.size() && source[i + 1] == '}') {
        ++i;
        break;
      }
    }
    deepest = std::max(deepest, blocks);
  }
  return deepest;
}

}  // namespace

// One confined process and the pipes to it and from it.
class TemplateEngine::Child {
 public:
  Child(const std::string& source, const std::vector<std::pair<std::string, std::string>>& tokens,
        int seconds, Beginnings beginnings)
      : seconds_(seconds) {
    progress_ = static_cast<TemplateProgress*>(
        ::mmap(nullptr, sizeof(TemplateProgress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (progress_ == MAP_FAILED) throw Failure(std::string("cannot map memory: ") + std::strerror(errno));
    int to[2], from[2];
    if (::pipe2(to, O_CLOEXEC) != 0)
      throw Failure(std::string("cannot make a pipe: ") + std::strerror(errno));
    if (::pipe2(from, O_CLOEXEC) != 0) {
      ::close(to[0]), ::close(to[1]);
      throw Failure(std::string("cannot make a pipe: ") + std::strerror(errno));
    }
    std::signal(SIGPIPE, SIG_IGN);  // a child that died is told by write(), as in base/tell.cpp
    process_ = ::fork();
    if (process_ < 0) {
      ::close(to[0]), ::close(to[1]), ::close(from[0]), ::close(from[1]);
      throw Failure(std::string("cannot start a process for templates: ") + std::strerror(errno));
    }
    if (process_ == 0) serve(to[0], from[1], source, tokens, beginnings);
    ::close(to[0]), ::close(from[1]);
    to_ = to[1], from_ = from[0];
  }
  ~Child() {
    ::close(to_), ::close(from_);
    if (process_ > 0) {
      ::kill(process_, SIGKILL);
      wait();
    }
    ::munmap(progress_, sizeof(TemplateProgress));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  // False when the child died.
  bool send(std::string_view request) {
    progress_->begun = 0;
    const uint64_t size = request.size();
    return send_all({reinterpret_cast<const char*>(&size), sizeof size}) && send_all(request);
  }
  // The next answer; nullopt when the child died.
  std::optional<Rendering> receive() {
    Rendering rendering;
    char kind = 0;
    if (!read_all(&kind, 1)) return std::nullopt;
    answered_ = true;
    if (kind == 'p') return read_text(rendering.problem) ? std::optional(rendering) : std::nullopt;
    while (read_all(&kind, 1)) {
      if (kind == 0) return rendering;
      rendering.parts.push_back({"", kind == 'g'});
      if (!read_text(rendering.parts.back().text)) break;
    }
    return std::nullopt;
  }

  bool has_answered() const { return answered_; }
  // Since the last time that this was asked.
  uint64_t newly_shared() { return progress_->shared - std::exchange(told_, progress_->shared); }

  // After its death: what it was at, from 0, and why it died. Failure when it could not be confined at all.
  std::optional<uint64_t> died_at() const {
    if (progress_->begun == 0) return std::nullopt;
    return progress_->begun - 1;
  }
  std::string cause_of_death() {
    const int status = wait();
    if (WIFEXITED(status) && WEXITSTATUS(status) == kUnconfined)
      throw Failure("the process that renders chat templates cannot be confined (seccomp)");
    if (WIFEXITED(status) && WEXITSTATUS(status) == kTemplateTooLong)
      return fmt::format("writes more than {} of text", bytes(kLongestRendering));
    const int signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (signal == SIGPROF) return fmt::format("took more than {} seconds", seconds_);
    if (signal == SIGSEGV || signal == SIGBUS)
      return "goes deeper than its stack: it is nested too deeply, or calls itself without end";
    return signal != 0 ? fmt::format("ended its process by signal {}", signal) : "ended its process";
  }

 private:
  static constexpr int kUnconfined = 8;

  [[noreturn]] void serve(int input, int output, const std::string& source,
                          const std::vector<std::pair<std::string, std::string>>& tokens,
                          Beginnings beginnings) {
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    for (const int signal : {SIGBUS, SIGSEGV, SIGPROF, SIGABRT, SIGHUP}) std::signal(signal, SIG_DFL);
    for (const int signal : {SIGINT, SIGTERM}) std::signal(signal, SIG_IGN);  // its parent's end ends it
    if (confine(output, kTemplateMemory, 0, input) != 0) ::_exit(kUnconfined);
    serve_template(source, tokens, seconds_, beginnings, *progress_);
  }

  int wait() {
    while (process_ > 0 && ::waitpid(process_, &status_, 0) < 0 && errno == EINTR) {}
    process_ = -1;
    return status_;
  }
  bool send_all(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::write(to_, text.data(), text.size());
      if (sent < 0 && errno == EINTR) continue;
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  bool read_all(char* data, size_t size) {
    while (size > 0) {
      if (at_ == buffer_.size()) {
        buffer_.resize(size_t{1} << 16);
        const auto got = ::read(from_, buffer_.data(), buffer_.size());
        buffer_.resize(got > 0 ? static_cast<size_t>(got) : 0);
        at_ = 0;
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
      }
      const auto step = std::min(size, buffer_.size() - at_);
      std::memcpy(data, buffer_.data() + at_, step);
      at_ += step, data += step, size -= step;
    }
    return true;
  }
  bool read_text(std::string& text) {
    uint32_t size = 0;
    if (!read_all(reinterpret_cast<char*>(&size), sizeof size)) return false;
    if (size > kLongestRendering) return false;
    text.resize(size);
    return read_all(text.data(), size);
  }

  TemplateProgress* progress_ = nullptr;
  pid_t process_ = -1;
  int to_ = -1, from_ = -1, status_ = 0, seconds_;
  std::string buffer_;
  size_t at_ = 0;
  uint64_t told_ = 0;
  bool answered_ = false;
};

TemplateEngine::TemplateEngine(std::string source, std::vector<std::pair<std::string, std::string>> tokens,
                               int seconds, Beginnings beginnings)
    : source_(std::move(source)), tokens_(std::move(tokens)), seconds_(seconds), beginnings_(beginnings) {
  if (source_.size() > kLongestTemplate)
    throw RecipeError(fmt::format("the chat template has {}; at most {} are read", bytes(source_.size()),
                                  bytes(kLongestTemplate)));
  if (const auto depth = deepest_level(source_); depth > kDeepestTemplate)
    throw RecipeError(fmt::format("the chat template is nested {} levels deep; at most {} are read", depth,
                                  kDeepestTemplate));
}

TemplateEngine::~TemplateEngine() = default;

std::unique_ptr<TemplateEngine::Child> TemplateEngine::borrow() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      auto child = std::move(idle_.back());
      idle_.pop_back();
      return child;
    }
  }
  return std::make_unique<Child>(source_, tokens_, seconds_, beginnings_);
}

std::vector<std::vector<Rendering>> TemplateEngine::render(std::span<const RenderJob> jobs) const {
  std::vector<std::vector<Rendering>> all(jobs.size());
  std::vector<std::pair<size_t, size_t>> left;  // job, which of its renderings
  for (size_t j = 0; j < jobs.size(); ++j) {
    all[j].resize(jobs[j].wanted.size());
    for (size_t w = 0; w < jobs[j].wanted.size(); ++w) left.emplace_back(j, w);
  }
  while (!left.empty()) {
    std::string request;
    size_t asked = 0;
    for (size_t i = 0; i < left.size(); ++asked) {
      const auto& job = jobs[left[i].first];
      put(request, static_cast<uint32_t>(job.messages.size()));
      for (const auto& message : job.messages) put(request, message);
      put(request, job.beside);
      const auto end = std::find_if(left.begin() + static_cast<std::ptrdiff_t>(i), left.end(),
                                    [&](const auto& one) { return one.first != left[i].first; }) -
                       left.begin();
      put(request, static_cast<uint32_t>(end - static_cast<std::ptrdiff_t>(i)));
      for (const auto j = left[i].first; i < left.size() && left[i].first == j; ++i) {
        put(request, job.wanted[left[i].second].messages);
        put(request, job.wanted[left[i].second].reply_header ? 1u : 0u);
      }
    }
    std::string head;
    put(head, static_cast<uint32_t>(asked));
    auto child = borrow();
    size_t answered = 0;
    if (child->send(head + request)) {
      for (; answered < left.size(); ++answered) {
        auto rendering = child->receive();
        if (!rendering) break;
        all[left[answered].first][left[answered].second] = std::move(*rendering);
      }
    }
    shared_ += child->newly_shared();
    if (answered == left.size()) {
      const std::lock_guard lock(mutex_);
      idle_.push_back(std::move(child));
      return all;
    }
    // The one at which it died has a problem; those that were on their way are asked for again.
    const auto at = child->died_at();
    if (!at && child->has_answered()) continue;  // it ended while it was idle: another one is asked
    const auto cause = child->cause_of_death();
    const auto culprit = at ? std::min(static_cast<size_t>(*at), left.size() - 1) : 0;
    for (size_t i = culprit; i < (at ? culprit + 1 : left.size()); ++i)
      all[left[i].first][left[i].second] = {{}, cause};
    std::vector<std::pair<size_t, size_t>> rest;
    for (size_t i = answered; i < left.size(); ++i)
      if (at && i != culprit) rest.push_back(left[i]);
    left = std::move(rest);
  }
  return all;
}

}  // namespace retort
