// Whose an error is: the one who named the file, or the machine; and what is worth trying again.
#include "base/system_failure.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

#include "base/files.h"

namespace retort {
namespace {

TEST(Trouble, IsTheUsersTheMachinesOrPasses) {
  for (const int error : {ENOENT, ENOTDIR, EISDIR, EACCES, EPERM, ELOOP, ENAMETOOLONG})
    EXPECT_EQ(trouble_of(error), Trouble::bad_input) << error;
  for (const int error : {EIO, ESTALE, EDQUOT, EROFS, ENOMEM, EINTR, ENOSPC, EMFILE, ENFILE, ETIMEDOUT})
    EXPECT_EQ(trouble_of(error), Trouble::passing) << error;
  for (const int error : {EFBIG, EBADF, EXDEV, ENOSYS, EOPNOTSUPP, 123456})
    EXPECT_EQ(trouble_of(error), Trouble::machine) << error;
}

TEST(Trouble, AMissingFileIsNoFailureAndAMissingFolderOfOursIsNoBadInput) {
  EXPECT_THROW(throw_reading("a", ENOENT), FormatError);
  EXPECT_THROW(throw_reading("a", EIO), PassingFailure);
  EXPECT_THROW(throw_writing("a", EDQUOT), PassingFailure);
  try {
    throw_writing("a/b: rename failed", ENOENT);
  } catch (const PassingFailure&) {
    FAIL() << "a folder that is gone does not come back by itself";
  } catch (const Failure& error) {
    EXPECT_STREQ(error.what(), "a/b: rename failed: No such file or directory");
  }
}

// The process itself may have no descriptor left: the file is as good as it was.
TEST(Trouble, AFileThatTheMachineDoesNotGiveIsNotABadOne) {
  const auto file = std::filesystem::temp_directory_path() / fmt::format("retort_trouble_{}", getpid());
  write_text(file, "text");
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{0, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &none);
  std::string said;
  try {
    MappedFile mapped(file);
  } catch (const PassingFailure& error) { said = error.what(); } catch (const Error& error) {
    said = std::string("of another kind: ") + error.what();
  }
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(said, printable(file.string()) + ": cannot be opened: Too many open files");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace retort
