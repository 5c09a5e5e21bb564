// Memory as the machine gives it: what the C library does with freed pages decides a third of a LibTorch
// program's speed on a CPU.
#pragma once
#include <cstdint>

namespace retort {

// Tells glibc to keep freed memory up to 32 MiB a piece instead of returning it to the kernel, which would
// fault every page of every activation again. Call once at program start, before threads.
void keep_freed_memory();

// Returns what is free now after all: memory that one thread freed (texts of samples, parts of a conversion)
// is of no use to others.
void return_freed_memory();

// GB/s that so many threads together read from memory (256 MiB of it, for about 50 ms): the limit of whatever
// touches each byte once.
double memory_speed(int64_t threads);

}  // namespace retort
