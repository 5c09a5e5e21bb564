#include "ops/row_loops_body.h"

namespace retort {

NamedRowLoops row_loops_avx2() {
  const bool runs =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  return {"avx2", runs ? &kLoops : nullptr};
}

}  // namespace retort
