#include "ops/row_loops_body.h"

namespace retort {

NamedRowLoops row_loops_portable() { return {"portable", &kLoops}; }

const AllRowLoops& row_loops() {
  static const AllRowLoops& chosen = [&]() -> const AllRowLoops& {
    for (const auto& candidate : {row_loops_avx512(), row_loops_avx2()})
      if (candidate.loops) return *candidate.loops;
    return kLoops;
  }();
  return chosen;
}

}  // namespace retort
