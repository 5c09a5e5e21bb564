// Takes from a forked child all that it does not need to work on hostile input.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace retort {

// From here on the process can open no file, reach no network, start no process and write nothing but `file`,
// which becomes its file 3, and read nothing but `input`, its file 4 (-1: none) (seccomp). It uses at most
// `memory_bytes` beyond what its parent had and at most `cpu_seconds` (0: no limit of its own). 0, or the
// errno of what could not be had. For a child between fork and _exit alone.
int confine(int file, uint64_t memory_bytes, int cpu_seconds, int input = -1);

// The same filter of system calls as the bytes of a sock_filter program, for a process that puts it on
// itself; without signals to others.
std::vector<std::byte> confinement_filter();

}  // namespace retort
