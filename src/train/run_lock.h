// One process trains in a folder at a time.
#pragma once
#include <filesystem>

namespace retort {

// Holds FOLDER/train.lock until destroyed. The kernel drops the lock with the process that held it, however
// it ended, so a lock file left behind is never in the way; its text names the holder. RecipeError when
// another process holds it.
class RunLock {
 public:
  explicit RunLock(const std::filesystem::path& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace retort
