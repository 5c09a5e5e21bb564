#include "base/disk_speed.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>

namespace retort {
namespace {

constexpr uint64_t kMost = uint64_t{256} << 20;
constexpr size_t kBlock = size_t{8} << 20;

}  // namespace

double disk_speed(const std::filesystem::path& file, uint64_t least) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (descriptor < 0) return 0;
  const std::unique_ptr<void, decltype(&std::free)> block(std::aligned_alloc(4096, kBlock), &std::free);
  uint64_t read = 0;
  const auto begin = std::chrono::steady_clock::now();
  while (block && read < kMost) {
    const auto got = ::pread(descriptor, block.get(), kBlock, static_cast<off_t>(read));
    if (got <= 0) break;
    read += static_cast<uint64_t>(got);
    if (static_cast<size_t>(got) < kBlock) break;  // the end; what follows would not be aligned
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  ::close(descriptor);
  return read > 0 && read >= least && seconds > 0 ? static_cast<double>(read) / seconds : 0;
}

double disk_speed_of_model(const std::filesystem::path& path, uint64_t least) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return disk_speed(path, least);
  for (const auto& entry : std::filesystem::directory_iterator(path, ignored))
    if (entry.path().extension() == ".safetensors")
      if (const auto speed = disk_speed(entry.path(), least); speed > 0) return speed;
  return 0;
}

}  // namespace retort
