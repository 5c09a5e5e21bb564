#include "kernels/decode_cuda.h"

namespace retort {

const char* launch_decode_f32(const DecodeJob& job, void* stream) {
  return launch_decode<float>(job, stream);
}

}  // namespace retort
