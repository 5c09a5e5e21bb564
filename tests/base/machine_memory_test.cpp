#include "base/machine_memory.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace retort {
namespace {

namespace fs = std::filesystem;

class MachineMemoryTest : public testing::Test {
 protected:
  void SetUp() override { fs::remove_all(root); }
  void TearDown() override { fs::remove_all(root); }
  void write(const std::string& file, const std::string& text) const {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  }
  const fs::path root = fs::path(testing::TempDir()) / ("retort_machine_" + std::to_string(getpid()));
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
};

TEST_F(MachineMemoryTest, WithoutAGroupItIsWhatTheKernelSays) {
  write("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:    50 kB\n");
  write("proc/self/statm", "20 2 1 1 0 1 0\n");
  EXPECT_EQ(machine_memory(root).available, 50 * 1024 + 2 * page);
  EXPECT_EQ(machine_memory(root).bound_by, "MemAvailable");
}

TEST_F(MachineMemoryTest, TheTightestGroupOfThePathCounts) {
  write("proc/meminfo", "MemAvailable: 1000000 kB\n");
  write("proc/self/statm", "0 0\n");
  write("proc/self/cgroup", "0::/outer/inner\n");
  write("sys/fs/cgroup/outer/inner/memory.max", "max\n");
  write("sys/fs/cgroup/outer/memory.max", "500000\n");
  write("sys/fs/cgroup/outer/memory.current", "200000\n");
  write("sys/fs/cgroup/outer/memory.stat", "anon 100\ninactive_file 150000\n");
  const auto found = machine_memory(root);
  EXPECT_EQ(found.available, 450000u);  // 500000 - (200000 - 150000)
  EXPECT_TRUE(found.bound_by.ends_with("outer/memory.max")) << found.bound_by;
}

TEST_F(MachineMemoryTest, OldControlGroupsAndTheirUnlimited) {
  write("proc/meminfo", "MemAvailable: 1000 kB\n");
  write("proc/self/statm", "0 0\n");
  write("proc/self/cgroup", "8:memory:/job\n7:cpu:/job\n");
  write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "300000\n");
  write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "100000\n");
  EXPECT_EQ(machine_memory(root).available, 200000u);
  write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(machine_memory(root).available, 1000u * 1024);
}

TEST(MachineMemory, OfThisMachineIsPlausible) {
  const auto found = machine_memory();
  EXPECT_GT(found.available, uint64_t{64} << 20);
  EXPECT_LT(found.available, uint64_t{1} << 46);
}

}  // namespace
}  // namespace retort
