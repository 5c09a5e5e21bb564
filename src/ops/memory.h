// What the C library does with freed memory decides a third of a LibTorch program's speed on a CPU.
#pragma once

namespace retort {

// Tells glibc to keep freed memory up to 32 MiB a piece instead of returning it to the kernel, which would fault every
// page of every activation again. Call once at program start, before threads.
void keep_freed_memory();

}  // namespace retort
