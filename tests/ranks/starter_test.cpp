#include "ranks/starter.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>

#include "base/error.h"

namespace retort {
namespace {

// The variables of a test alone: also where the tests themselves run under Slurm.
class Starter : public testing::Test {
 protected:
  static constexpr std::array kAll = {"OMPI_COMM_WORLD_SIZE", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS",
                                      "SLURM_NTASKS", "PMI_SIZE"};
  void SetUp() override {
    for (size_t i = 0; i < kAll.size(); ++i) {
      if (const auto* value = std::getenv(kAll[i])) before_[i] = value;
      ::unsetenv(kAll[i]);
    }
  }
  void TearDown() override {
    for (size_t i = 0; i < kAll.size(); ++i)
      before_[i].empty() ? ::unsetenv(kAll[i]) : ::setenv(kAll[i], before_[i].c_str(), 1);
  }

 private:
  std::array<std::string, kAll.size()> before_;
};

TEST_F(Starter, OfSeveralProcessesThatMpiDoesNotKnowIsRefusedByName) {
  ::setenv("WORLD_SIZE", "4", 1);
  const auto starter = other_starter();
  ASSERT_TRUE(starter);
  EXPECT_EQ(starter->variable, "WORLD_SIZE");
  EXPECT_EQ(starter->processes, 4);
  EXPECT_NO_THROW(require_known_to_mpi(starter, 4));
  try {
    require_known_to_mpi(starter, 1);
    FAIL() << "accepted";
  } catch (const RecipeError& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code, Exit::bad_input);
    EXPECT_NE(text.find("this is one of 4 processes (WORLD_SIZE=4, as torchrun sets it)"), std::string::npos)
        << text;
    EXPECT_NE(text.find("start them by mpirun -n 4 or srun --mpi=pmix"), std::string::npos) << text;
  }
  ::unsetenv("WORLD_SIZE");
  ::setenv("SLURM_STEP_NUM_TASKS", "2", 1);
  EXPECT_EQ(other_starter()->processes, 2);
}

TEST_F(Starter, OneProcessAndMpirunAreNoneOfThem) {
  EXPECT_FALSE(other_starter());
  EXPECT_NO_THROW(require_known_to_mpi(std::nullopt, 1));
  for (const auto* value : {"1", "", "many", "-3"}) {
    ::setenv("WORLD_SIZE", value, 1);
    EXPECT_FALSE(other_starter()) << value;
  }
  ::setenv("SLURM_NTASKS", "8", 1);  // of a batch job, in which this is one process
  EXPECT_FALSE(other_starter());
  ::setenv("WORLD_SIZE", "8", 1);
  ::setenv("OMPI_COMM_WORLD_SIZE", "1", 1);
  EXPECT_FALSE(other_starter());
}

}  // namespace
}  // namespace retort
