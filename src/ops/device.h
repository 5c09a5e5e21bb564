// Which device computes. A CPU run looks at no library of a GPU.
#pragma once
#include <c10/core/Device.h>

#include <filesystem>
#include <string>

namespace retort {

// The device that `asked` names, ready for use. `auto`: the first GPU where a driver and LibTorch's part for
// it are there, else the CPU. Throws Failure, in one line, where a GPU is asked for and something is missing.
// `memory`: a size (base/byte_size.h) for weights that stay there (ops/device_copies.h); empty: what is free
// at the first call, less what passes need.
at::Device open_device(const std::string& asked, const std::string& memory = "");

// Where open_device() looks for a GPU's driver and for LibTorch's part that uses it.
struct CudaParts {
  std::string driver = "libcuda.so.1";  // by the linker's rules
  std::filesystem::path library;        // libtorch_cuda.so beside libtorch_cpu.so
  // Our kernels (device_kernels.h): libretort_cuda.so beside the program, or in ../lib/retort. Empty: none.
  std::filesystem::path kernels = {};
};
CudaParts usual_cuda_parts();
// The GPU that `asked` (cuda or cuda:N) names among so many; Failure where there is none.
at::Device gpu_among(const std::string& asked, int count);
// Loads driver and library, and throws Failure for the first that is missing.
void load_cuda(const CudaParts& parts);
// Loads our kernels, after those two.
void load_kernels(const std::filesystem::path& library);

// What besides its name tells one GPU from another, for the record of a run: "cuda:0, NVIDIA driver ...".
std::string describe(at::Device device);

}  // namespace retort
