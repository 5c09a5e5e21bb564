#include "base/scratch_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <optional>

namespace retort {
namespace {

namespace fs = std::filesystem;

TEST(ScratchFolder, IsGoneWithWhatIsInItAndWithTheParentsThatWereMadeForIt) {
  std::optional<ScratchFolder> outer(std::in_place, "retort-scratch-test");
  const auto top = outer->path();
  struct stat status {};
  ASSERT_EQ(::stat(top.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 077, 0u);
  {
    const ScratchFolder inner(top / "runs/a", ".rehearsal-");
    EXPECT_EQ(inner.path().parent_path().string(), (top / "runs/a").string());
    EXPECT_TRUE(inner.path().filename().string().starts_with(".rehearsal-"));
    std::ofstream(inner.path() / "file") << "x";
  }
  EXPECT_TRUE(fs::is_empty(top));
  fs::create_directories(top / "runs");
  {
    const ScratchFolder inner(top / "runs/a", ".rehearsal-");
    std::ofstream(top / "runs/a/kept") << "x";  // somebody else's by now
  }
  EXPECT_TRUE(fs::exists(top / "runs/a/kept"));
  outer.reset();
  EXPECT_FALSE(fs::exists(top));
}

}  // namespace
}  // namespace retort
