// What a long piece of work shows while it runs: one line that is redrawn on a terminal, a plain line now and
// then elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace retort {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;
  // "train", 400 "steps". `already`: done by an earlier run, so that the rate counts only what this one does.
  Progress(std::string what, int64_t total, std::string unit, int64_t already = 0, std::FILE* out = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `detail`: "loss 1.234  312 tokens/s". Redraws at most ten times a second; without a terminal every five
  // seconds.
  void update(int64_t done, const std::string& detail = "");
  void finish(const std::string& detail = "");
  // A line of its own above the progress line.
  void note(const std::string& text);

  // The line for `done` after `seconds`, without control characters.
  std::string line(int64_t done, double seconds, const std::string& detail) const;

 private:
  void draw(const std::string& text);
  std::string what_, unit_;
  int64_t total_, already_;
  std::FILE* out_;
  bool terminal_, drawn_ = false, finished_ = false;
  int64_t last_done_ = -1;
  Clock::time_point start_ = Clock::now(), last_draw_{};
};

std::string duration(double seconds);  // "42 s", "3 min 05 s", "2 h 07 min"

}  // namespace retort
