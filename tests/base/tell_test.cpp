#include "base/tell.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

namespace retort {

TEST(Tell, WhatCannotBeWrittenIsLost) {
  auto* full = std::fopen("/dev/full", "w");
  ASSERT_TRUE(full);
  tell("nobody reads this", full);
  EXPECT_FALSE(std::ferror(full));
  std::fclose(full);
}

TEST(Tell, ABrokenPipeAndAClosedOutputEndNothing) {
  EXPECT_EXIT(
      {
        ::close(STDERR_FILENO);
        keep_outputs_apart();
        int pipe[2];
        if (::pipe(pipe) != 0 || pipe[0] == STDERR_FILENO || pipe[1] == STDERR_FILENO) ::_exit(2);
        ::close(pipe[0]);
        tell("nobody reads this");
        tell("nor this", ::fdopen(pipe[1], "w"));
        ::_exit(0);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace retort
