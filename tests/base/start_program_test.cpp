#include "base/start_program.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/error.h"
#include "base/stop.h"

namespace retort {
namespace {

const std::vector<std::string> shell(const std::string& text) { return {"sh", "-c", text}; }

struct Heard {
  std::string text, complaint;
  std::optional<int> status;
};

Heard heard_of(const std::string& text, const std::string& input, int seconds = 60) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  StartedProgram program("/bin/sh", shell(text), -1, input);
  Heard heard;
  for (auto some = program.hear(until, "t"); !some.empty(); some = program.hear(until, "t"))
    heard.text += some;
  heard.status = program.ended(until, "t");
  heard.complaint = program.last_complaint();
  return heard;
}

TEST(StartedProgram, IsGivenItsInputWhileItIsHeard) {
  std::string much;  // more than the pipes hold on both sides
  for (int i = 0; i < 200000; ++i) much += std::to_string(i) + "\n";
  const auto heard = heard_of("cat; echo one >&2; echo two >&2; exit 3", much);
  EXPECT_EQ(heard.text, much);
  EXPECT_EQ(heard.complaint, "two");
  ASSERT_TRUE(heard.status);
  EXPECT_EQ(WEXITSTATUS(*heard.status), 3);
  // One that does not listen, and one that says more to its standard error than a pipe holds.
  EXPECT_EQ(heard_of("exec <&-; echo x", much).text, "x\n");
  EXPECT_EQ(heard_of("head -c 300000 /dev/zero >&2; echo y", "").text, "y\n");
}

TEST(StartedProgram, EndsWithItsTimeAndWithItsReader) {
  const auto heard = heard_of("echo a; sleep 600", "", 1);
  EXPECT_EQ(heard.text, "a\n");
  EXPECT_FALSE(heard.status);
  EXPECT_FALSE(heard_of("exec >&-; sleep 600", "", 1).status);  // it closed its output and goes on
  pid_t child = 0;
  {
    StartedProgram program("/bin/sh", shell("sleep 600 & echo $!; wait"), -1);
    child = static_cast<pid_t>(std::stol(std::string(program.hear(std::nullopt, "t"))));
  }
  for (int i = 0; i < 200 && ::kill(child, 0) == 0; ++i) ::usleep(10000);
  // Whoever adopts it may not have noticed; then it is a zombie.
  if (::kill(child, 0) == 0) {
    char state[64] = {};
    const auto file = "/proc/" + std::to_string(child) + "/stat";
    if (auto* stat = std::fopen(file.c_str(), "r")) {
      EXPECT_EQ(std::fscanf(stat, "%*d %*s %60s", state), 1);
      std::fclose(stat);
      EXPECT_EQ(std::string(state), "Z");
    }
  }
}

TEST(StartedProgram, HoldsNoFileOfOurs) {
  const Pipe open_here;
  EXPECT_EQ(
      heard_of("ls /proc/self/fd | sort -n | head -3 | tr '\\n' ' '; ls /proc/self/fd | wc -l", "").text,
      "0 1 2 4\n");  // the fourth: of ls itself
}

TEST(StartedProgram, AStopIsHeard) {
  StartedProgram program("/bin/sh", shell("sleep 600"), -1);
  request_stop();
  EXPECT_THROW(program.hear(std::nullopt, "t"), Stopped);
  forget_stop();
}

TEST(StartProgram, WhatCannotBeStartedIsNamed) {
  EXPECT_EQ(find_program("no-such-program"), "");
  EXPECT_EQ(find_program("/tmp"), "");
  EXPECT_NE(find_program("sh"), "");
  try {
    start_program("/no/such", {.arguments = {"such"}, .files = {}});
    FAIL();
  } catch (const Failure& error) {
    EXPECT_STREQ(error.what(), "cannot start /no/such: No such file or directory");
  }
}

}  // namespace
}  // namespace retort
