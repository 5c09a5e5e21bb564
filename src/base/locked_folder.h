// One process at a time works in a run's folder.
#pragma once
#include <filesystem>

namespace retort {

// Makes FOLDER (for its owner alone: it holds samples' texts) and holds FOLDER/run.lock until destroyed. The
// kernel lets go of the lock when its process dies, so a stale one cannot be. Failure that names host and
// process when another holds it.
class LockedFolder {
 public:
  explicit LockedFolder(const std::filesystem::path& folder);
  ~LockedFolder();
  LockedFolder(LockedFolder&& other) noexcept;
  LockedFolder& operator=(LockedFolder&&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace retort
