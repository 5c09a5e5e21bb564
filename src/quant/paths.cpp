#include "quant/paths.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <vector>

namespace retort {

extern const QuantPath kAvx2Path, kAvx512Path;

#if defined(__x86_64__)
namespace {
// clang 14's __builtin_cpu_supports does not know this feature.
bool has_f16c() {
  unsigned int eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
}  // namespace
#endif

std::span<const QuantPath* const> paths_on_this_machine() {
  static const auto paths = [] {
    std::vector<const QuantPath*> found;
#if defined(__x86_64__)
    __builtin_cpu_init();  // checks the operating system's support of the wide registers, too
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi2") && has_f16c();
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") &&
                        __builtin_cpu_supports("avx512bf16");
    if (avx512) found.push_back(&kAvx512Path);
    if (avx2) found.push_back(&kAvx2Path);
#endif
    return found;
  }();
  return paths;
}

}  // namespace retort
