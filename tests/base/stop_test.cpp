#include "base/stop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "base/error.h"

namespace retort {

TEST(Stop, TermAsksForACleanEnd) {
  forget_stop();
  catch_stop_signals();
  leave_if_stopped("testing");
  ::raise(SIGTERM);
  EXPECT_TRUE(stop_requested());
  try {
    leave_if_stopped("testing");
    ADD_FAILURE() << "went on";
  } catch (const Stopped& stopped) {
    EXPECT_EQ(stopped.code, Exit::stopped);
    EXPECT_EQ(std::string_view(stopped.what()).substr(0, 21), "stopped while testing");
  }
  forget_stop();
  EXPECT_FALSE(stop_requested());
}

TEST(Stop, AClosedTerminalAsksForACleanEndUnlessNohupWasAsked) {
  EXPECT_EXIT(
      {
        forget_stop();
        ::signal(SIGHUP, SIG_DFL);
        catch_stop_signals();
        ::raise(SIGHUP);
        ::_exit(stop_requested() ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
  EXPECT_EXIT(
      {
        forget_stop();
        ::signal(SIGHUP, SIG_IGN);
        catch_stop_signals();
        ::raise(SIGHUP);
        ::_exit(stop_requested() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

TEST(Stop, TheSecondInterruptLeavesAtOnce) {
  EXPECT_EXIT(
      {
        forget_stop();
        catch_stop_signals();
        ::raise(SIGINT);
        if (!stop_requested()) ::_exit(1);
        ::raise(SIGINT);
        ::_exit(0);
      },
      testing::ExitedWithCode(130), "");
}

}  // namespace retort
