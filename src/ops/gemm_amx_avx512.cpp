#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "ops/gemm_amx_body.h"

namespace retort {
namespace {

// In words of the assembler: GCC's own do not say that they read and write memory.
struct CpuTiles {
  __attribute__((always_inline)) static void configure(const TileShapes& shapes) {
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
  }
  template <int t> __attribute__((always_inline)) static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(t));
  }
  template <int t> __attribute__((always_inline)) static void load(const void* rows, int64_t row_bytes) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int t> __attribute__((always_inline)) static void load_past(const void* rows, int64_t row_bytes) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" : : "r"(rows), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int t> __attribute__((always_inline)) static void store(void* rows, int64_t row_bytes) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(rows), "r"(row_bytes), "i"(t) : "memory");
  }
  template <int c, int a, int b> __attribute__((always_inline)) static void add_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
  template <int c, int a, int b> __attribute__((always_inline)) static void add_int8() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b));
  }
  __attribute__((always_inline)) static void release() { asm volatile("tilerelease" : : : "memory"); }
};

// The CPU has tiles, and the kernel saves them and lets this process use them (Linux 5.16).
bool runs() {
  if (!gemm_kernel_avx512_bf16()) return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & (kBf16 | kTile | kInt8)) != (kBf16 | kTile | kInt8))
    return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Products of zeros: four sums, two left and two right operands, as the blocks use them.
template <bool kIntegers> double tile_registers(int64_t rounds) {
  using Work = Block<CpuTiles, 2, 2, 16>;
  Work::configure(32);
  const int64_t each = rounds / 16 + 1;  // a tile is many multiply-adds
  for (int64_t i = 0; i < each; ++i) {
    Work::multiply<kIntegers, 0>();
    Work::multiply<kIntegers, 1>();
    Work::multiply<kIntegers, 2>();
    Work::multiply<kIntegers, 3>();
  }
  CpuTiles::release();
  return static_cast<double>(each) * 4 * 16 * 16 * 16 * (kIntegers ? 8 : 4);
}

}  // namespace

const GemmKernel* gemm_kernel_amx_bf16() {
  static constexpr GemmKernel kKernel = amx_kernel<CpuTiles>("amx_bf16", tile_registers<false>);
  static const bool allowed = runs();
  return allowed ? &kKernel : nullptr;
}

const Int8Kernel* int8_kernel_amx() {
  if (!gemm_kernel_amx_bf16() || !int8_kernel_avx512()) return nullptr;
  static const Int8Kernel kernel = [] {
    auto k = *int8_kernel_avx512();
    k.multiply = int8_multiply_on_tiles<CpuTiles>;
    k.registers = tile_registers<true>;
    return k;
  }();
  return &kernel;
}

}  // namespace retort
