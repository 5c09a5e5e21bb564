// A folder for what lasts no longer than the work that makes it.
#pragma once
#include <filesystem>
#include <string>

namespace retort {

// Made beneath TMPDIR, for its owner alone; gone at the end with all that is in it (of a link the link
// alone). Failure when it cannot be made.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace retort
