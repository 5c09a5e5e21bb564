// The decoding kernels on the CPU, with plain memory for a device's.
#pragma once
#include "kernels/decode_body.h"
#include "support/emulated_blocks.h"

namespace retort {

// `launch` says how; its threads and shared memory are the kernel's. Returns the barriers of a block.
inline int64_t run_decode(const DecodeJob& job, Launch launch) {
  launch.threads = kDecodeThreads;
  int64_t barriers = 0;
  const auto blocks = [&](auto format) {
    using Format = decltype(format);
    launch.shared_bytes = shared_bytes_of_blocks<Format>();
    barriers = run_blocks(launch, [&](EmulatedThread& threads) {
      if (job.to_bf16) decode_tiles<Format, uint16_t>(threads, job);
      else decode_tiles<Format, float>(threads, job);
    });
  };
  const auto rows = [&](auto format) {
    using Format = decltype(format);
    launch.shared_bytes = book_bytes<Format>();
    barriers = run_blocks(launch, [&](EmulatedThread& threads) {
      if (job.to_bf16) decode_rows<Format, uint16_t>(threads, job);
      else decode_rows<Format, float>(threads, job);
    });
  };
  if (!with_block_format(job.type, blocks) && !with_row_format(job.type, rows))
    throw std::logic_error("there is no kernel for this type");
  return barriers;
}

}  // namespace retort
