#include "ops/device.h"

#include <ATen/Context.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <dlfcn.h>
#include <link.h>
#include <stdlib.h>
#include <torch/version.h>

#include <fstream>
#include <mutex>

#include "base/byte_size.h"
#include "base/device_name.h"
#include "base/error.h"
#include "ops/device_copies.h"
#include "ops/device_kernels.h"

namespace retort {
namespace {

constexpr auto kNode = "/dev/nvidiactl";  // where a driver runs

void give_room(at::Device device, const std::string& memory) {
  if (!memory.empty()) {
    const auto size = byte_size(memory);
    if (!size)
      throw RecipeError(
          fmt::format("device_memory: expected a size such as 60GiB, found '{}'", printable(memory)));
    return set_device_room(*size);
  }
  static std::once_flag first;  // later there are weights already
  std::call_once(first, [&] {
    at::globalContext().lazyInitDevice(device.type());
    set_device_room(
        room_beside_passes(c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).first));
  });
}

at::Device open_cuda(const std::string& asked, const std::string& memory) {
  const auto parts = usual_cuda_parts();
  load_cuda(parts);
  if (!parts.kernels.empty()) load_kernels(parts.kernels);
  const auto device = gpu_among(asked, static_cast<int>(at::detail::getCUDAHooks().deviceCount()));
  // Equal bytes on the same GPU: sums of rows that meet are made in one order.
  at::globalContext().setDeterministicAlgorithms(true, false);
  give_room(device, memory);
  return device;
}

}  // namespace

at::Device gpu_among(const std::string& asked, int count) {
  if (count == 0)
    throw Failure(
        fmt::format("device: {}: the NVIDIA driver is there and names no GPU; look at nvidia-smi and at "
                    "CUDA_VISIBLE_DEVICES, or set device: cpu",
                    asked));
  const auto number = gpu_number(asked).value_or(0);
  if (number >= count)
    throw Failure(fmt::format(
        "device: {}: this machine has {}", asked,
        count == 1 ? "one GPU, cuda:0" : fmt::format("{} GPUs, cuda:0 to cuda:{}", count, count - 1)));
  return {at::kCUDA, static_cast<at::DeviceIndex>(number)};
}

CudaParts usual_cuda_parts() {
  CudaParts parts;
  ::dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* found) {
        const std::filesystem::path file(object->dlpi_name);
        if (file.filename() != "libtorch_cpu.so") return 0;
        *static_cast<std::filesystem::path*>(found) = file.parent_path() / "libtorch_cuda.so";
        return 1;
      },
      &parts.library);
  std::error_code none;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", none).parent_path();
  for (const auto* place : {"libretort_cuda.so", "../lib/retort/libretort_cuda.so"})
    if (parts.kernels.empty() && std::filesystem::exists(program / place, none))
      parts.kernels = program / place;
  return parts;
}

void load_kernels(const std::filesystem::path& library) {
  if (::dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL)) return;
  const char* why = ::dlerror();
  throw Failure(fmt::format(
      "device: cuda: {} cannot be loaded: {}; build it again with the program (tools/build cuda), or remove "
      "it to do without kernels of our own",
      printable(library.string()), printable(why ? why : "for no reason given")));
}

void load_cuda(const CudaParts& parts) {
  // Kept open to the end: what they register is used from here on.
  if (!::dlopen(parts.driver.c_str(), RTLD_LAZY | RTLD_LOCAL))
    throw Failure(fmt::format(
        "device: cuda: this machine has no NVIDIA driver ({} is not found); install the driver of its GPU, "
        "or set device: cpu",
        printable(parts.driver)));
  const auto library = printable(parts.library.string());
  if (!std::filesystem::exists(parts.library))
    throw Failure(fmt::format(
        "device: cuda: {} is missing, LibTorch's part for GPUs; build with RETORT_LIBTORCH naming the "
        "site-packages folder of a Python whose torch {} has CUDA, or set device: cpu",
        library, TORCH_VERSION));
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);  // without which its products are not reproducible
  if (!::dlopen(parts.library.c_str(), RTLD_NOW | RTLD_GLOBAL)) {
    const char* why = ::dlerror();
    throw Failure(fmt::format("device: cuda: {} cannot be loaded: {}; set device: cpu to do without", library,
                              printable(why ? why : "for no reason given")));
  }
  if (!at::hasCUDA())
    throw Failure(fmt::format(
        "device: cuda: {} was loaded and brings no CUDA; is it of the build of libtorch_cpu.so beside it?",
        library));
}

at::Device open_device(const std::string& asked, const std::string& memory) {
  if (asked == "cpu") return at::kCPU;
  if (asked == "auto")
    return std::filesystem::exists(kNode) && std::filesystem::exists(usual_cuda_parts().library)
               ? open_cuda("cuda", memory)
               : at::Device(at::kCPU);
  if (!gpu_number(asked))
    throw RecipeError(fmt::format("device: expected {}, found '{}'", kDevices, printable(asked)));
  return open_cuda(asked, memory);
}

std::string describe(at::Device device) {
  if (device.is_cpu()) return "cpu";
  std::ifstream file("/proc/driver/nvidia/version");
  std::string driver;
  std::getline(file, driver);
  return fmt::format("{}, {}{}", device.str(), driver.empty() ? "driver unknown" : driver,
                     has_decoder(device) ? ", matrices decoded there" : "");
}

}  // namespace retort
