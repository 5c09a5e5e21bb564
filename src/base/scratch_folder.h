// A folder for what lasts no longer than the work that makes it.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Made beneath TMPDIR, for its owner alone; gone at the end with all that is in it (of a link the link
// alone). Failure when it cannot be made.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name);
  // The same inside of PARENT, which is made where it is not there and gone again then; its name begins so.
  ScratchFolder(const std::filesystem::path& parent, std::string_view beginning);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  // parents, the deepest first
};

}  // namespace retort
