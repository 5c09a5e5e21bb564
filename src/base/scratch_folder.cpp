#include "base/scratch_folder.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/files.h"

namespace retort {

ScratchFolder::ScratchFolder(const std::string& name) {
  auto pattern = (std::filesystem::temp_directory_path() / (name + "-XXXXXX")).string();
  if (!::mkdtemp(pattern.data()))
    throw Failure(fmt::format("{}: a folder to work in cannot be made: {}; set TMPDIR to another place",
                              printable(pattern), std::strerror(errno)));
  path_ = pattern;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  forget_files_in(path_);
}

}  // namespace retort
