// What memory this process may still take.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

namespace retort {

struct MachineMemory {
  uint64_t available = 0;  // bytes this process may use in all, what it holds already included
  std::string bound_by;    // "MemAvailable" or the control group's file
};

// The smaller of MemAvailable and what the control groups of this process leave (v2 memory.max, v1
// memory.limit_in_bytes; pages of files that can be dropped count as free). `root`: where /proc and /sys are,
// for tests.
MachineMemory machine_memory(const std::filesystem::path& root = "/");

uint64_t resident_bytes();       // that this process holds now
uint64_t peak_resident_bytes();  // the most it ever held

}  // namespace retort
