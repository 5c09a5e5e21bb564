// A device for tests on machines without one: LibTorch's place for a back end of one's own, whose memory is
// the CPU's under other addresses. Code of the CPU that touches such an address ends in a segmentation fault,
// as with a GPU; an operation that is given a tensor of the CPU beside one of the device throws, except for
// single numbers; backward runs on the device's own thread. What it computes, LibTorch's CPU kernels compute,
// so that whole results can be compared.
#pragma once
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>

namespace retort::pretend {

using at::Tensor;

inline const at::Device kDevice{c10::DeviceType::PrivateUse1, 0};
inline std::atomic<int64_t> operations = 0;  // that ran on the device so far
// Bytes that the CPU's memory was copied to on the device so far: of lists (int64 and bool), of all else.
inline std::atomic<int64_t> lists_copied = 0, numbers_copied = 0;

// One memory seen twice: through `device` nobody reads or writes.
class Memory {
 public:
  Memory() {
    const int file = ::memfd_create("pretend device", MFD_CLOEXEC);
    if (file < 0 || ::ftruncate(file, kBytes) != 0) throw std::runtime_error("no memory for the device");
    device_ = map(file, PROT_NONE), host_ = map(file, PROT_READ | PROT_WRITE);
    ::close(file);
    free_.emplace(0, kBytes);
  }
  void* take(uint64_t bytes) {
    const std::lock_guard lock(mutex_);
    bytes = (bytes + 63) / 64 * 64;
    for (auto place = free_.begin(); place != free_.end(); ++place) {
      if (place->second < bytes) continue;
      const auto [at, size] = *place;
      free_.erase(place);
      if (size > bytes) free_.emplace(at + bytes, size - bytes);
      taken_[at] = bytes;
      return device_ + at;
    }
    throw std::runtime_error("the pretended device is full");
  }
  void give_back(void* address) {
    const std::lock_guard lock(mutex_);
    const auto taken = taken_.find(static_cast<uint64_t>(static_cast<std::byte*>(address) - device_));
    auto place = free_.emplace(*taken).first;
    taken_.erase(taken);
    if (const auto next = std::next(place);
        next != free_.end() && place->first + place->second == next->first)
      place->second += next->second, free_.erase(next);
    if (place == free_.begin()) return;
    if (const auto before = std::prev(place); before->first + before->second == place->first)
      before->second += place->second, free_.erase(place);
  }
  uint64_t taken() {
    const std::lock_guard lock(mutex_);
    uint64_t bytes = 0;
    for (const auto& [at, size] : taken_) bytes += size;
    return bytes;
  }
  void* host_of(const void* address) const {
    return host_ + (static_cast<const std::byte*>(address) - device_);
  }

 private:
  static constexpr uint64_t kBytes = uint64_t{4} << 30;  // of addresses; pages come when they are used
  static std::byte* map(int file, int access) {
    void* const begin = ::mmap(nullptr, kBytes, access, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (begin == MAP_FAILED) throw std::runtime_error("the device's memory cannot be mapped");
    return static_cast<std::byte*>(begin);
  }
  std::byte *device_, *host_;
  std::mutex mutex_;
  std::map<uint64_t, uint64_t> free_, taken_;  // place, bytes
};

inline Memory& memory() {
  static auto* const all = new Memory;  // outlives tensors that are freed at the end
  return *all;
}

class Allocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, kDevice};
    void* const begin = memory().take(bytes);
    return {begin, begin, &give_back, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(memory().host_of(to), memory().host_of(from), bytes);
  }

 private:
  static void give_back(void* begin) { memory().give_back(begin); }
};
inline Allocator allocator;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kDevice.type(); }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream exchangeStream(c10::Stream) const override {
    return c10::Stream(c10::Stream::DEFAULT, kDevice);
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  // There is one stream, whose work is done when a call returns.
  void record(void**, const c10::Stream&, c10::DeviceIndex, c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(c10::DeviceIndex) const override {}
};

// What autograd's engine asks of an accelerator.
struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
};

inline bool is_on_device(const Tensor& x) { return x.defined() && x.device().type() == kDevice.type(); }

// The same numbers for LibTorch's CPU kernels; valid while x is.
inline Tensor seen_by_cpu(const Tensor& x) {
  auto* const begin = x.storage().mutable_data() ? memory().host_of(x.storage().mutable_data()) : nullptr;
  const auto all = at::from_blob(
      begin, {static_cast<int64_t>(x.storage().nbytes()) / static_cast<int64_t>(x.element_size())},
      at::TensorOptions(x.scalar_type()));
  return all.as_strided(x.sizes(), x.strides(), x.storage_offset());
}

inline Tensor empty_on_device(at::IntArrayRef sizes, std::optional<at::ScalarType> type) {
  return at::detail::empty_generic(sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   type.value_or(at::kFloat), std::nullopt);
}

inline Tensor taken_to_device(const Tensor& x) {
  if (!x.defined()) return x;
  auto there = empty_on_device(x.sizes(), x.scalar_type());
  seen_by_cpu(there).copy_(x);
  return there;
}

// Any operation that has no kernel here: with the CPU's kernel on the device's memory.
inline void on_device(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  ++operations;
  const at::AutoDispatchBelowADInplaceOrView below_autograd;
  const auto& schema = op.schema();
  const auto count = schema.arguments().size();
  const std::vector<c10::IValue> arguments(stack->end() - static_cast<std::ptrdiff_t>(count), stack->end());
  const auto seen = [&](const Tensor& x) {
    if (!x.defined() || (x.is_cpu() && x.dim() == 0)) return x;  // single numbers: a GPU takes them too
    if (!is_on_device(x))
      throw std::runtime_error(schema.name() + ": a tensor of the CPU among those of the device");
    return seen_by_cpu(x);
  };
  // An `out` without numbers gets its size and memory from the operation.
  const auto is_made = [&](size_t at) {
    return schema.arguments()[at].is_out() && arguments[at].isTensor() &&
           arguments[at].toTensor().numel() == 0;
  };
  torch::jit::drop(*stack, count);
  for (size_t a = 0; a < count; ++a) {
    const auto& argument = arguments[a];
    if (is_made(a)) {
      stack->emplace_back(at::empty({0}, at::TensorOptions(argument.toTensor().scalar_type())));
    } else if (argument.isTensor()) {
      stack->emplace_back(seen(argument.toTensor()));
    } else if (argument.isTensorList()) {
      std::vector<Tensor> all;
      for (const Tensor& x : argument.toTensorVector()) all.push_back(seen(x));
      stack->emplace_back(c10::List<Tensor>(std::move(all)));
    } else if (argument.isOptionalTensorList()) {
      c10::List<std::optional<Tensor>> all;
      for (const std::optional<Tensor> x : argument.toOptionalTensorList())
        all.push_back(x ? std::optional(seen(*x)) : std::nullopt);
      stack->emplace_back(std::move(all));
    } else if (argument.isDevice()) {
      stack->emplace_back(at::Device(at::kCPU));
    } else {
      stack->push_back(argument);
    }
  }
  op.callBoxed(stack);
  const auto& returns = schema.returns();
  std::vector<c10::IValue> results(stack->end() - static_cast<std::ptrdiff_t>(returns.size()), stack->end());
  torch::jit::drop(*stack, returns.size());
  for (size_t i = 0; i < results.size(); ++i) {
    const auto* alias = returns[i].alias_info();
    if (!alias) {
      if (results[i].isTensor()) {
        stack->emplace_back(taken_to_device(results[i].toTensor()));
      } else if (results[i].isTensorList()) {
        std::vector<Tensor> all;
        for (const Tensor& x : results[i].toTensorVector()) all.push_back(taken_to_device(x));
        stack->emplace_back(c10::List<Tensor>(std::move(all)));
      } else {
        stack->push_back(results[i]);
      }
      continue;
    }
    if (!alias->isWrite())
      throw std::runtime_error(schema.name() + ": a view that the pretended device does not know");
    bool found = false;  // in place, or into `out`
    for (size_t a = 0; a < count && !found; ++a)
      if (const auto* of = schema.arguments()[a].alias_info(); of && *of == *alias) {
        if (is_made(a)) {
          const auto there = taken_to_device(results[i].toTensor());
          auto* const made = arguments[a].toTensor().unsafeGetTensorImpl();
          made->set_storage_keep_dtype(there.storage());
          made->set_sizes_and_strides(there.sizes(), there.strides());
        }
        if (arguments[a].toTensor().sizes() != results[i].toTensor().sizes())
          throw std::runtime_error(schema.name() + ": a result of another size");
        stack->push_back(arguments[a]);
        found = true;
      }
    if (!found) throw std::runtime_error(schema.name() + ": a result that is no argument");
  }
}

inline Tensor empty(c10::SymIntArrayRef sizes, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                    std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat>) {
  return empty_on_device(C10_AS_INTARRAYREF_SLOW(sizes), type);
}
inline Tensor empty_strided(c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides,
                            std::optional<at::ScalarType> type, std::optional<at::Layout>,
                            std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides),
                                           &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           type.value_or(at::kFloat));
}
inline Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  const auto seen = [](const Tensor& x) { return is_on_device(x) ? seen_by_cpu(x) : x; };
  if (from.is_cpu() && is_on_device(to)) {
    const bool list = from.scalar_type() == at::kLong || from.scalar_type() == at::kBool;
    (list ? lists_copied : numbers_copied) += static_cast<int64_t>(to.nbytes());
  }
  seen(to).copy_(seen(from));
  return to;
}
inline Tensor as_strided(const Tensor& x, c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides,
                         std::optional<c10::SymInt> offset) {
  return at::native::as_strided_tensorimpl(
      x, C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides),
      offset ? std::optional(offset->guard_int(__FILE__, __LINE__)) : std::nullopt);
}
inline Tensor view(const Tensor& x, c10::SymIntArrayRef sizes) {
  return at::native::view(x, C10_AS_INTARRAYREF_SLOW(sizes));
}
inline Tensor reshape_alias(const Tensor& x, c10::SymIntArrayRef sizes, c10::SymIntArrayRef strides) {
  return at::native::_reshape_alias(x, C10_AS_INTARRAYREF_SLOW(sizes), C10_AS_INTARRAYREF_SLOW(strides));
}

inline const c10::impl::DeviceGuardImplRegistrar guard{kDevice.type(), new Guard};
inline const bool is_known = [] {
  c10::register_privateuse1_backend("pretended");
  at::RegisterPrivateUse1HooksInterface(new Hooks);
  c10::SetAllocator(kDevice.type(), &allocator);
  return true;
}();

// Not by LibTorch's macros, which register once more in every file that includes them.
inline const torch::detail::TorchLibraryInit all_operations(
    torch::Library::IMPL,
    [](torch::Library& pretended) {
      pretended.fallback(torch::CppFunction::makeFromBoxedFunction<&on_device>());
    },
    "_", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);
inline const torch::detail::TorchLibraryInit own_operations(
    torch::Library::IMPL,
    [](torch::Library& pretended) {
      pretended.impl("empty.memory_format", &empty);
      pretended.impl("empty_strided", &empty_strided);
      pretended.impl("_copy_from", &copy_from);
      pretended.impl("as_strided", &as_strided);
      pretended.impl("view", &view);
      pretended.impl("_reshape_alias", &reshape_alias);
    },
    "aten", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__);

}  // namespace retort::pretend
