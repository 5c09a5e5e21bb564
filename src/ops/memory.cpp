#include "ops/memory.h"

#include <malloc.h>

namespace retort {

void keep_freed_memory() {
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);   // glibc's upper limit
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  ::mallopt(M_TOP_PAD, 64 << 20);
}

}  // namespace retort
