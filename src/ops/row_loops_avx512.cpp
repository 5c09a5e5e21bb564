#include <immintrin.h>

#include "ops/row_loops_body.h"

namespace retort {

// The file is compiled with all of these allowed, so all of them are asked for.
NamedRowLoops row_loops_avx512() {
  const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
                    __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi2");
  return {"avx512", runs ? &kLoops : nullptr};
}

}  // namespace retort
