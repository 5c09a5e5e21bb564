#include "kernels/decode_cuda.h"

namespace retort {

const char* launch_decode_bf16(const DecodeJob& job, void* stream) {
  return launch_decode<uint16_t>(job, stream);
}

}  // namespace retort
