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

// Resident memory of this process now: its own, and pages of files.
struct HeldBytes {
  uint64_t own = 0, of_files = 0;
};
HeldBytes held_bytes();
uint64_t resident_bytes();       // both together
uint64_t peak_resident_bytes();  // the most it ever held

}  // namespace retort
