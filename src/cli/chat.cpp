#include "cli/chat.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "base/files.h"
#include "base/json.h"
#include "base/stop.h"
#include "base/tell.h"
#include "base/terminal.h"
#include "text/chat_pieces.h"

namespace retort {

namespace {

constexpr const char* kHelp =
    "/reset          begin anew\n"
    "/system TEXT    begin anew with this system message; without TEXT: with none\n"
    "/save FILE      write the conversation as one line of JSON, as `data.sources` reads it\n"
    "/exit           leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer. A line that ends with \\ goes on in the next one.\n";

enum class Input { line, end, interrupted };

Input read_line(std::string& line) {
  char* buffer = nullptr;
  size_t capacity = 0;
  errno = 0;
  const auto length = ::getline(&buffer, &capacity, stdin);
  const bool interrupted = length < 0 && errno == EINTR;
  line.assign(buffer ? buffer : "", length > 0 ? static_cast<size_t>(length) : 0);
  std::free(buffer);
  if (interrupted) std::clearerr(stdin);
  if (length < 0) return interrupted ? Input::interrupted : Input::end;
  if (line.ends_with('\n')) line.pop_back();
  if (line.ends_with('\r')) line.pop_back();
  return Input::line;
}

class Chat {
 public:
  Chat(Conversation& conversation, std::string system)
      : conversation_(conversation),
        system_(std::move(system)),
        talks_(isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {}

  Exit run() {
    conversation_.reset(system_);
    if (talks_) fmt::print("/help lists commands; Ctrl-D leaves.\n");
    std::string message;
    for (bool goes_on = false;;) {
      if (talks_) fmt::print("{}", goes_on ? ". " : "> ");
      std::fflush(stdout);
      std::string line;
      const auto input = read_line(line);
      if (stop_signal() == SIGTERM) throw Stopped("stopped while chatting");
      if (input == Input::interrupted) {
        forget_stop();
        if (std::exchange(asked_to_leave_, true)) return Exit::done;
        fmt::print("\n(once more to leave)\n");
        message.clear();
        goes_on = false;
        continue;
      }
      asked_to_leave_ = false;
      if (input == Input::end) {
        if (talks_) fmt::print("\n");
        return Exit::done;
      }
      goes_on = line.ends_with('\\');
      if (goes_on) line.back() = '\n';
      message += line;
      if (goes_on) continue;
      const auto said = std::exchange(message, "");
      if (trimmed(said).empty()) continue;
      if (said[0] != '/') answer(said);
      else if (!obey(said)) return Exit::done;
    }
  }

 private:
  // False: leave.
  bool obey(const std::string& line) {
    const auto space = line.find(' ');
    const auto word = line.substr(0, space);
    const auto rest =
        std::string(space == std::string::npos ? "" : trimmed(std::string_view(line).substr(space)));
    if (word == "/exit" || word == "/quit") return false;
    if (word == "/help") {
      fmt::print("{}", kHelp);
    } else if (word == "/reset") {
      conversation_.reset(system_);
    } else if (word == "/system") {
      conversation_.reset(system_ = rest);
    } else if (word == "/save") {
      save(rest);
    } else {
      complain(fmt::format("'{}' is no command; /help lists them", printable(word)));
    }
    return true;
  }

  void save(const std::string& file) {
    if (file.empty()) return complain("/save needs the name of a file");
    OrderedJson messages = OrderedJson::array();
    for (const auto& message : conversation_.messages())
      messages.push_back({{"role", message.role}, {"content", message.content}});
    try {
      write_text(file, OrderedJson{{"messages", messages}}.dump(-1, ' ', false,
                                                                OrderedJson::error_handler_t::replace) +
                           "\n");
      fmt::print("{} messages in {}\n", messages.size(), printable(file));
    } catch (const Error& error) { complain(error.what()); }
  }

  void answer(const std::string& message) {
    const auto start = std::chrono::steady_clock::now();
    Answer said;
    try {
      said = conversation_.say(message, [](std::string_view fresh) {
        const auto shown = harmless(fresh);
        std::fwrite(shown.data(), 1, shown.size(), stdout);
        std::fflush(stdout);
        return !stop_requested();
      });
    } catch (const RecipeError& error) { return complain(error.what()); }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    fmt::print("\n");
    if (stop_signal() == SIGTERM) throw Stopped("stopped while chatting");
    if (said.finish == Finish::interrupted) forget_stop();
    if (talks_)
      fmt::print("\x1b[2m[{} tokens, {:.1f} tokens/s, ended by {}; {} tokens in all]\x1b[0m\n",
                 said.tokens.size(), static_cast<double>(said.tokens.size()) / seconds,
                 finish_name(said.finish), conversation_.tokens());
  }

  void complain(const std::string& problem) {
    std::fflush(stdout);
    tell(problem);
  }

  Conversation& conversation_;
  std::string system_;
  bool talks_, asked_to_leave_ = false;
};

}  // namespace

Exit chat(Conversation& conversation, const std::string& system) { return Chat(conversation, system).run(); }

}  // namespace retort
