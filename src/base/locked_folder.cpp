#include "base/locked_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "base/system_failure.h"

namespace retort {

LockedFolder::LockedFolder(const std::filesystem::path& folder) {
  const bool fresh = !std::filesystem::exists(folder);
  make_folder(folder);
  if (fresh && ::chmod(folder.c_str(), 0700) != 0)
    throw_writing(folder.string() + ": cannot be closed to others", errno);
  const auto file = folder / "run.lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (descriptor_ < 0) throw_writing(file.string() + ": cannot be written", errno);
  char host[256] = {};
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    char holder[300] = {};
    if (::pread(descriptor_, holder, sizeof holder - 1, 0) < 0) holder[0] = 0;
    ::close(std::exchange(descriptor_, -1));
    throw Failure(
        fmt::format("{}: in use by {}; wait for it, or set run.folder", folder.string(), printable(holder)));
  }
  ::gethostname(host, sizeof host - 1);
  const auto holder = fmt::format("process {} on {}", ::getpid(), host);
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, holder.data(), holder.size(), 0) < 0)
    throw_writing(file.string() + ": cannot be written", errno);
}

LockedFolder::LockedFolder(LockedFolder&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

LockedFolder::~LockedFolder() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

}  // namespace retort
