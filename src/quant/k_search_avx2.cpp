#include "quant/k_search_lanes.h"

#include <immintrin.h>

namespace retort {
namespace {

struct EightLanes {  // GCC's vectors: arithmetic, comparisons and ?: work lane by lane
  using F = float __attribute__((vector_size(32)));
  using I = int32_t __attribute__((vector_size(32)));
  static constexpr int n = 8;
  static F all(float value) { return F{} + value; }
  static I all(int value) { return I{} + value; }
  static F to_float(I value) { return __builtin_convertvector(value, F); }
  static bool any(I mask) { return _mm256_movemask_epi8(__builtin_bit_cast(__m256i, mask)) != 0; }
  static void put(F& lanes, int lane, float value) { lanes[lane] = value; }
  static float get(F lanes, int lane) { return lanes[lane]; }
  static int get(I lanes, int lane) { return lanes[lane]; }
};

}  // namespace

extern const ScaleSearch kAvx2Search;
const ScaleSearch kAvx2Search = {search_affine<EightLanes>, search_with_sign<EightLanes>,
                                 search_iq4<EightLanes>};

}  // namespace retort
