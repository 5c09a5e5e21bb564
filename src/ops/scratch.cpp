#include "ops/scratch.h"

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

namespace retort {
namespace {

struct FreeAligned {
  void operator()(std::byte* p) const { std::free(p); }
};

}  // namespace

std::byte* scratch_bytes(Scratch use, int64_t bytes) {
  struct Buffer {
    std::unique_ptr<std::byte, FreeAligned> data;
    int64_t bytes = 0;
  };
  thread_local std::array<Buffer, static_cast<size_t>(Scratch::callers) + 1> buffers;
  auto& buffer = buffers.at(static_cast<size_t>(use));
  if (buffer.bytes < bytes) {
    buffer.data.reset();  // before the larger one is asked for
    buffer.bytes = (bytes + 4095) / 4096 * 4096;
    buffer.data.reset(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(buffer.bytes))));
    if (!buffer.data) throw std::bad_alloc();
  }
  return buffer.data.get();
}

}  // namespace retort
