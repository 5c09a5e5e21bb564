#include "train/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {

RunLock::RunLock(const std::filesystem::path& folder) {
  make_folder(folder);
  const auto path = folder / "train.lock";
  descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) throw_writing(path.string() + ": cannot be opened", errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    char holder[300] = {};
    if (::pread(descriptor_, holder, sizeof holder - 1, 0) < 0) holder[0] = 0;
    ::close(descriptor_);
    if (reason != EWOULDBLOCK) throw_writing(path.string() + ": cannot be locked", reason);
    throw RecipeError(
        fmt::format("{}: this folder is being trained in by {}; wait for it, or choose another output folder",
                    folder.string(), holder[0] ? printable(holder) : "another process"));
  }
  char host[200] = {};
  ::gethostname(host, sizeof host - 1);
  const auto text = fmt::format("process {} on {}", ::getpid(), host);
  const bool written = ::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, text.data(), text.size(),
                                                                    0) == static_cast<ssize_t>(text.size());
  static_cast<void>(written);  // a full disk must not keep a run from continuing; the text is for people
}

RunLock::~RunLock() { ::close(descriptor_); }

}  // namespace retort
