#include "report/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include <fmt/format.h>

#include "base/tell.h"

namespace retort {

std::string duration(double seconds) {
  const auto whole = static_cast<int64_t>(seconds + 0.5);
  if (whole < 60) return seconds < 10 ? fmt::format("{:.1f} s", seconds) : fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

Progress::Progress(std::string what, int64_t total, std::string unit, int64_t already, std::FILE* out)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      already_(already),
      out_(out),
      terminal_(isatty(fileno(out))) {}

Progress::~Progress() {
  if (drawn_ && !finished_ && terminal_) tell("", out_);
}

std::string Progress::line(int64_t done, double seconds, const std::string& detail) const {
  std::string text = total_ > 0 ? fmt::format("{}  {}/{} {}", what_, done, total_, unit_)
                                : fmt::format("{}  {} {}", what_, done, unit_);
  if (!detail.empty()) text += "  " + detail;
  const int64_t now_done = done - already_;
  if (total_ > done && now_done > 0)
    text += fmt::format(
        "  {} left", duration(seconds / static_cast<double>(now_done) * static_cast<double>(total_ - done)));
  else if (done == total_) text += fmt::format("  {}", duration(seconds));
  return text;
}

void Progress::draw(const std::string& text) {
  if (!terminal_) {
    tell(text, out_);
  } else {
    winsize size{};
    const size_t width =
        ioctl(fileno(out_), TIOCGWINSZ, &size) == 0 && size.ws_col > 8 ? size.ws_col - 1 : 79;
    constexpr int kBar = 20;
    std::string bar;
    if (total_ > 0 && text.size() + kBar + 3 <= width) {
      const auto filled = static_cast<int>(kBar * std::max<int64_t>(last_done_, 0) / total_);
      bar = "[" + std::string(static_cast<size_t>(filled), '=') +
            std::string(static_cast<size_t>(kBar - filled), ' ') + "] ";
    }
    const auto shown = fmt::format("\r\x1b[K{}{}", bar, text.substr(0, width));
    if (std::fputs(shown.c_str(), out_) < 0) std::clearerr(out_);
  }
  std::fflush(out_);
  drawn_ = true;
}

void Progress::update(int64_t done, const std::string& detail) {
  last_done_ = done;
  const auto now = Clock::now();
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (drawn_ && now - last_draw_ < pause) return;
  last_draw_ = now;
  draw(line(done, std::chrono::duration<double>(now - start_).count(), detail));
}

void Progress::finish(const std::string& detail) {
  if (finished_) return;
  if (last_done_ < 0) last_done_ = already_;
  draw(line(last_done_, std::chrono::duration<double>(Clock::now() - start_).count(), detail));
  if (terminal_) tell("", out_);
  finished_ = true;
}

void Progress::note(const std::string& text) { tell(terminal_ && drawn_ ? "\r\x1b[K" + text : text, out_); }

}  // namespace retort
