#include "ops/composed.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "ops/device_kernels.h"

namespace retort {
namespace {

std::atomic<bool>& everywhere() {
  static std::atomic<bool> on = [] {
    const char* said = std::getenv("RETORT_COMPOSED");
    return said && std::string_view(said) == "1";
  }();
  return on;
}

// Of blocks that no kernel decodes on the device: as the CPU decodes them.
std::optional<Tensor> decoded_copy_there(const Weight& weight, at::Device device, at::ScalarType type) {
  if (device.is_cpu() || !weight.copies) return std::nullopt;
  constexpr int64_t kNumbers = 16 << 20;  // at a time
  const auto rows = weight.rows, columns = weight.columns, most = std::max<int64_t>(1, kNumbers / columns);
  return weight.copies->decoded(weight.blocks, device, type, rows * columns, [&] {
    auto all = at::empty({rows, columns}, at::TensorOptions(type).device(device));
    for (int64_t first = 0; first < rows; first += most) {
      const auto count = std::min(most, rows - first);
      all.narrow(0, first, count).copy_(widen_for_use(weight, first, count, type));
    }
    return all;
  });
}

}  // namespace

bool composed(const Tensor& x) { return !x.is_cpu() || everywhere().load(std::memory_order_relaxed); }

ComposedScope::ComposedScope(bool on) : before_(everywhere().exchange(on)) {}
ComposedScope::~ComposedScope() { everywhere() = before_; }

Tensor widened_on(const Tensor& x, const Weight& weight, int64_t first, int64_t count) {
  const auto device = x.device();
  const auto type = x.scalar_type();
  if (weight.dense.defined()) {
    if (const auto there = copy_there(weight.dense, device, type, weight.copies))
      return there->narrow(0, first, count).to(type);
    return weight.dense.detach().narrow(0, first, count).to(device, type);
  }
  if (auto decoded = decoded_on(x, weight, first, count)) return *std::move(decoded);
  if (const auto there = decoded_copy_there(weight, device, type)) return there->narrow(0, first, count);
  return widen_for_use(weight, first, count, type).to(device);
}

Tensor wide_product(const Tensor& a, const Tensor& b) {
  if (a.is_cuda() && a.scalar_type() != at::kFloat) return at::mm(a, b, at::kFloat);
  return at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

Tensor sum_over_rows(const Tensor& a, const Tensor& b) { return wide_product(a.t(), b); }

}  // namespace retort
