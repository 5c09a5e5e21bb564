// Reads a file whose library we do not trust with hostile input in a child process.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace retort {

// Runs `read` in a forked child that can open no file, reach no network, start no process and write nothing
// but its answer (seccomp), uses at most `memory_bytes` beyond what this process has and at most
// `cpu_seconds`. `send` inside the child appends to the answer that is returned here. An Error thrown by
// `read` becomes a FormatError here; the child's death too, named after `file`. At most `answer_bytes` are
// taken.
using SendBytes = std::function<void(std::span<const std::byte>)>;
std::vector<std::byte> read_isolated(std::string_view file, uint64_t memory_bytes, uint64_t answer_bytes,
                                     int cpu_seconds, const std::function<void(const SendBytes& send)>& read);

}  // namespace retort
