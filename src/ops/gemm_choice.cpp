#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <ctime>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ops/gemm.h"
#include "ops/gemm_forms.h"
#include "ops/int8_gemm.h"
#include "ops/use_kernel.h"

namespace retort {
namespace {

// A layer of a small model, 64 rows: long enough to time, short enough for start-up.
constexpr int64_t kRows = 64, kInner = 576, kColumns = 192;

double seconds_now() {  // of this thread alone: other processes do not sway the choice
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// The product as an operation calls it, activations of `type`: by panels that were packed before, or as a
// whole where the kernel multiplies another type.
class Trial {
 public:
  Trial(const GemmKernel& kernel, Operand type)
      : weights_(kColumns * kInner, 0x3C00),
        narrow_(kRows * kInner, 0x3C00),  // small numbers, no denormals
        wide_(kRows * kInner, 0.01f),
        out_(kRows * kColumns),
        term_{{type == Operand::f32 ? static_cast<const void*>(wide_.data()) : narrow_.data(), kInner, type},
              gemm_matrix_bf16(weights_.data(), kColumns, kInner, false)},
        packed_(type == kernel.operand) {
    if (!packed_) return;
    panels_.resize(static_cast<size_t>(panel_bytes(kernel, kInner, kColumns)) + 64);
    aligned_ = panels_.data() + (64 - reinterpret_cast<uintptr_t>(panels_.data()) % 64) % 64;
    pack_panels(kernel, term_.b, 0, kColumns, aligned_);
  }

  // Of this kernel, or of another form of it, which reads the same panels.
  double seconds(const GemmKernel& kernel) {
    const GemmOutput out{out_.data(), kColumns, Operand::f32};
    const double start = seconds_now();
    if (packed_) multiply_panels(kernel, term_.a, kRows, kInner, aligned_, kColumns, out);
    else gemm(kernel, {&term_, 1}, kRows, out);
    return seconds_now() - start;
  }

 private:
  std::vector<uint16_t> weights_, narrow_;
  std::vector<float> wide_, out_;
  std::vector<std::byte> panels_;
  std::byte* aligned_ = nullptr;
  GemmTerm term_;
  bool packed_;
};

// GFLOP/s, the best of some runs within 10 ms, of which the first pays for memory and for the unit's waking
// up: five at least.
double product_speed(const GemmKernel& kernel, Operand type) {
  Trial trial(kernel, type);
  double best = 1e9;
  const double begin = seconds_now();
  for (int i = 0; i < 50 && (i < 5 || seconds_now() - begin < 0.01); ++i)
    best = std::min(best, trial.seconds(kernel));
  return 2e-9 * kRows * kInner * kColumns / best;
}

constexpr int kFormRounds = 20;
constexpr double kClearly = 0.97;  // of the time of the first form: what is between the two may be noise

// The form of a kernel to use, or null where there is none: some milliseconds, all forms in turn.
const GemmKernel* fastest_form(const GemmForms& forms) {
  if (forms.count == 0) return nullptr;
  const auto* const first = &forms.first->kernel;
  Trial trial(*first, first->operand);
  std::vector<double> best(static_cast<size_t>(forms.count), 1e9);
  for (int round = 0; round < kFormRounds; ++round)
    for (size_t i = 0; i < best.size(); ++i)
      best[i] = std::min(best[i], trial.seconds(forms.first[i].kernel));
  const auto fastest = static_cast<size_t>(std::min_element(best.begin(), best.end()) - best.begin());
  return best[fastest] < kClearly * best[0] ? &forms.first[fastest].kernel : first;
}

double peak_speed(const GemmKernel& kernel) {
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const double start = seconds_now();
    const double flop = kernel.registers(20000);
    best = std::max(best, flop * 1e-9 / (seconds_now() - start));
  }
  return best;
}

// Small integers, so every order of summing gives the same bits.
constexpr int64_t kProofRows = 53, kProofInner = 150, kProofColumns = 77;

}  // namespace

bool proven(const GemmKernel& kernel) {
  const auto product = [](const GemmKernel& with) {
    std::vector<float> a(kProofRows * kProofInner), b(kProofColumns * kProofInner),
        out(kProofRows * kProofColumns);
    for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i * 7 % 13) - 6;
    for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i * 5 % 11) - 5;
    const GemmTerm term{{a.data(), kProofInner, Operand::f32},
                        gemm_matrix(b.data(), kProofColumns, kProofInner, false)};
    gemm(with, {&term, 1}, kProofRows, {out.data(), kProofColumns, Operand::f32});
    return out;
  };
  return product(kernel) == product(*gemm_kernel_portable());
}

bool proven(const Int8Kernel& kernel) {
  constexpr int64_t kStride = 152, kGroups = 2;
  const auto product = [](const Int8Kernel& with, int64_t width) {
    std::vector<uint8_t> codes(kProofRows * kStride);
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(128 + i * 7 % 13 - 6);
    std::vector<float> scales(kProofRows * kGroups, 0.5f), out(static_cast<size_t>(kProofRows * width));
    std::vector<int8_t> panel(static_cast<size_t>(kStride * width));
    for (size_t i = 0; i < panel.size(); ++i) panel[i] = static_cast<int8_t>(i * 5 % 11 - 5);
    std::vector<int32_t> corrections(static_cast<size_t>(kGroups * width));
    with.corrections(panel.data(), kStride, width, corrections.data());
    const Int8Rows rows{kProofRows, kStride, kGroups, codes.data(), kStride, scales.data()};
    with.multiply(rows, panel.data(), corrections.data(), nullptr, width, out.data(), width, false);
    return out;
  };
  for (const int64_t width : {16, 32, 48})
    if (product(kernel, width) != product(*int8_kernel_avx512(), width)) return false;
  return true;
}

std::span<const GemmKernel* const> gemm_kernels() {
  static const auto kernels = [] {
    std::vector<const GemmKernel*> found;
    if (const auto* tiles = gemm_kernel_amx_bf16(); tiles && proven(*tiles)) found.push_back(tiles);
    const auto* const bf16 = fastest_form(gemm_forms_avx512_bf16());
    const auto* const wide = fastest_form(gemm_forms_avx512());
    // Nobody uses it where there is a wider one.
    const auto* const narrow = wide ? gemm_kernel_avx2() : fastest_form(gemm_forms_avx2());
    for (const auto* kernel : {bf16, wide, narrow, gemm_kernel_portable()})
      if (kernel) found.push_back(kernel);
    return found;
  }();
  return kernels;
}

const char* form_name(const GemmKernel& kernel) {
  for (const auto& forms : {gemm_forms_avx512_bf16(), gemm_forms_avx512(), gemm_forms_avx2()})
    for (int64_t i = 0; i < forms.count; ++i)
      if (&forms.first[i].kernel == &kernel) return forms.first[i].name;
  return "";
}

namespace {

std::atomic<const GemmKernel*> used = nullptr;  // of UseKernel

// As RETORT_KERNEL names it; nullptr where it is not set.
const GemmKernel* named_kernel() {
  const char* name = std::getenv("RETORT_KERNEL");
  if (!name || !*name) return nullptr;
  std::string known;
  for (const auto* kernel : gemm_kernels()) {
    if (std::string_view(kernel->name) == name) return kernel;
    known += (known.empty() ? "" : ", ") + std::string(kernel->name);
  }
  throw RecipeError(
      fmt::format("RETORT_KERNEL: this machine has no '{}'; it has {}", printable(name), known));
}

}  // namespace

UseKernel::UseKernel(const GemmKernel& kernel) : before_(used.exchange(&kernel)) {}
UseKernel::~UseKernel() { used = before_; }

const GemmKernel& gemm_kernel(Operand activations) {
  const auto choose = [](Operand type) {
    const GemmKernel *fastest = nullptr, *exact = nullptr;
    for (const auto* kernel : gemm_kernels())
      if (kernel->operand == Operand::f32 && !exact) exact = kernel;
    if (const auto* named = named_kernel(); named && (type == Operand::bf16 || named->operand == type))
      return named;
    if (type == Operand::f32) return exact;
    // Tiles are the fastest wherever they are, and a choice that noise could turn would be another run's.
    if (const auto* tiles = gemm_kernels().front(); tiles == gemm_kernel_amx_bf16()) return tiles;
    // Of the others CPUID cannot tell: of two CPUs with avx512_bf16, one is twice as fast in bf16 as in fp32
    // and the other half as fast.
    double most = 0;
    for (const auto* kernel : gemm_kernels()) {
      if (kernel != exact && kernel->operand != Operand::bf16) continue;
      const double speed = product_speed(*kernel, type);
      if (speed > most) most = speed, fastest = kernel;
    }
    return fastest;
  };
  static const GemmKernel* const f32 = choose(Operand::f32);
  static const GemmKernel* const bf16 = choose(Operand::bf16);
  if (const auto* kernel = used.load();
      kernel && (activations == Operand::bf16 || kernel->operand == activations))
    return *kernel;
  return activations == Operand::f32 ? *f32 : *bf16;
}

const Int8Kernel* int8_kernel() {
  static const Int8Kernel* const chosen = [] {
    const auto* tiles = int8_kernel_amx();
    return tiles && proven(*tiles) ? tiles : int8_kernel_avx512();
  }();
  return chosen;
}

std::span<const GemmSpeed> gemm_speeds() {
  static const auto speeds = [] {
    std::vector<GemmSpeed> found;
    for (const auto* kernel : gemm_kernels()) found.push_back(gemm_speed(*kernel));
    return found;
  }();
  return speeds;
}

// Of this kernel alone: a run that begins asks for two of them.
const GemmSpeed& gemm_speed(const GemmKernel& kernel) {
  static std::mutex mutex;
  static std::map<const GemmKernel*, GemmSpeed> measured;
  const auto known = gemm_kernels();
  if (std::find(known.begin(), known.end(), &kernel) == known.end())
    throw std::logic_error("gemm_speed: a kernel that this machine cannot run");
  const std::lock_guard lock(mutex);
  if (const auto found = measured.find(&kernel); found != measured.end()) return found->second;
  const GemmSpeed speed{&kernel, product_speed(kernel, kernel.operand), peak_speed(kernel)};
  return measured.emplace(&kernel, speed).first->second;
}

}  // namespace retort
