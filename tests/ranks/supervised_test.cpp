#include "ranks/supervised.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace retort {

TEST(Supervised, ReturnsWhatTheWorkReturns) {
  EXPECT_EQ(supervised([] { return Exit::done; }), Exit::done);
  EXPECT_EQ(supervised([] { return Exit::stopped; }), Exit::stopped);
  EXPECT_EQ(supervised([]() -> Exit { throw RecipeError("nothing works"); }), Exit::machine_failed);
}

TEST(Supervised, TellsOfAChildThatASignalEnded) {
  ::setenv("OMPI_COMM_WORLD_RANK", "7", 1);
  testing::internal::CaptureStderr();
  const auto exit = supervised([] {
    ::kill(::getpid(), SIGKILL);
    return Exit::done;
  });
  const auto told = testing::internal::GetCapturedStderr();
  ::unsetenv("OMPI_COMM_WORLD_RANK");
  EXPECT_EQ(exit, Exit::machine_failed);
  EXPECT_TRUE(told.starts_with("retort-ranks: rank 7 on ")) << told;
  EXPECT_NE(told.find("was ended by signal 9 (Killed)"), std::string::npos) << told;
}

}  // namespace retort
