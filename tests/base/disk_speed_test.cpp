#include "base/disk_speed.h"

#include <gtest/gtest.h>

#include "data/temporary_folder.h"  // tests/data

namespace retort {

TEST(DiskSpeed, IsOfAFileThatIsLargeEnough) {
  const TemporaryFolder folder;
  const auto file = folder.write("model.safetensors", std::string(size_t{1} << 20, 'x'));
  EXPECT_EQ(disk_speed(file), 0);  // by default a quarter of a gigabyte tells
  EXPECT_EQ(disk_speed(folder / "nothing", 1), 0);
  EXPECT_EQ(disk_speed_of_model(folder / "nothing", 1), 0);
  // A file system that reads past no cache (tmpfs) says nothing of either.
  EXPECT_EQ(disk_speed(file, 1) > 0, disk_speed_of_model(file.substr(0, file.rfind('/')), 1) > 0);
}

}  // namespace retort
