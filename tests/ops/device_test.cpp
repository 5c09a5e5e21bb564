// Which device computes: what is missing for a GPU is told in one line.
#include "ops/device.h"

#include <gtest/gtest.h>

#include "base/device_name.h"
#include "base/error.h"
#include "base/files.h"
#include "data/temporary_folder.h"  // tests/data

namespace retort {
namespace {

// What stands for a driver and for a library that brings no CUDA: found by the linker on every machine.
constexpr auto kSomeLibrary = "libm.so.6";

std::string refused(const std::function<void()>& work) {
  try {
    work();
  } catch (const Failure& failure) { return failure.what(); }
  return "nothing was refused";
}

bool has_gpu() { return std::filesystem::exists("/dev/nvidiactl"); }

}  // namespace

TEST(Device, NamesAreThoseOfTheRecipe) {
  for (const auto* name : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"})
    EXPECT_TRUE(names_device(name)) << name;
  for (const auto* name : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda:128", "CUDA", "cpu:0"})
    EXPECT_FALSE(names_device(name)) << name;
  EXPECT_EQ(gpu_number("cuda"), 0);
  EXPECT_EQ(gpu_number("cuda:12"), 12);
}

TEST(Device, TheCpuNeedsNothing) {
  EXPECT_EQ(open_device("cpu"), at::Device(at::kCPU));
  EXPECT_EQ(describe(at::kCPU), "cpu");
  EXPECT_THROW(open_device("gpu"), RecipeError);
  if (has_gpu()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(open_device("auto"), at::Device(at::kCPU));
}

TEST(Device, AMissingDriverIsNamed) {
  EXPECT_EQ(refused([] {
              load_cuda({"libno-such-driver.so.1", "x.so"});
            }),
            "device: cuda: this machine has no NVIDIA driver (libno-such-driver.so.1 is not found); install "
            "the driver of its GPU, or set device: cpu");
  if (has_gpu()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_NE(refused([] { open_device("cuda"); }).find("(libcuda.so.1 is not found)"), std::string::npos);
  EXPECT_NE(refused([] { open_device("cuda:3"); }).find("(libcuda.so.1 is not found)"), std::string::npos);
}

TEST(Device, AMissingPartOfLibTorchIsNamed) {
  const TemporaryFolder folder;
  const std::string part = folder / "libtorch_cuda.so";
  const auto missing = refused([&] { load_cuda({kSomeLibrary, part}); });
  EXPECT_TRUE(missing.starts_with("device: cuda: " + part + " is missing, LibTorch's part for GPUs; "))
      << missing;
  EXPECT_NE(missing.find("RETORT_LIBTORCH"), std::string::npos);
  write_text(part, "no library");
  const auto broken = refused([&] { load_cuda({kSomeLibrary, part}); });
  EXPECT_TRUE(broken.starts_with("device: cuda: " + part + " cannot be loaded: ")) << broken;
  EXPECT_EQ(std::count(broken.begin(), broken.end(), '\n'), 0);
  const auto beside = usual_cuda_parts().library;
  EXPECT_EQ(beside.filename(), "libtorch_cuda.so");
  EXPECT_TRUE(std::filesystem::exists(beside.parent_path() / "libtorch_cpu.so")) << beside;
}

TEST(Device, ALibraryOfKernelsThatDoesNotFitIsNamed) {
  const TemporaryFolder folder;
  const std::string library = folder / "libretort_cuda.so";
  write_text(library, "no library");
  const auto broken = refused([&] { load_kernels(library); });
  EXPECT_TRUE(broken.starts_with("device: cuda: " + library + " cannot be loaded: ")) << broken;
  EXPECT_NE(broken.find("; build it again with the program (tools/build cuda), or remove it"),
            std::string::npos)
      << broken;
  EXPECT_EQ(std::count(broken.begin(), broken.end(), '\n'), 0);
}

TEST(Device, AGpuThatIsNotThereIsNamed) {
  EXPECT_EQ(gpu_among("cuda", 1), at::Device(at::kCUDA, 0));
  EXPECT_EQ(gpu_among("cuda:2", 3), at::Device(at::kCUDA, 2));
  EXPECT_EQ(refused([] { gpu_among("cuda:9", 2); }),
            "device: cuda:9: this machine has 2 GPUs, cuda:0 to cuda:1");
  EXPECT_EQ(refused([] { gpu_among("cuda:1", 1); }), "device: cuda:1: this machine has one GPU, cuda:0");
  EXPECT_NE(refused([] { gpu_among("cuda", 0); }).find("names no GPU"), std::string::npos);
}

}  // namespace retort
