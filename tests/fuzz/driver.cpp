// libFuzzer's entry; RETORT_FUZZ_TARGET names the function of targets.h.
#include <cstddef>
#include <cstdint>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    retort::fuzz::RETORT_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  } catch (const retort::FormatError&) {
    return 0;  // a refusal is a fine answer
  }
  return 0;
}
