// The kernels on a GPU, against the scalar definitions bit for bit. Compiled in a CUDA build alone, and never
// run where this was written.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "kernels/launch.h"

namespace retort {
namespace {

bool has_gpu() {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}

// Bytes on the GPU, freed with it.
class OnDevice {
 public:
  explicit OnDevice(size_t bytes) : bytes_(bytes) {
    if (cudaMalloc(&begin_, bytes + 16) != cudaSuccess) throw std::runtime_error("cudaMalloc");
  }
  explicit OnDevice(std::span<const std::byte> bytes) : OnDevice(bytes.size()) {
    cudaMemcpy(begin_, bytes.data(), bytes.size(), cudaMemcpyHostToDevice);
  }
  ~OnDevice() { cudaFree(begin_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  void* data() const { return begin_; }
  template <class T> std::vector<T> back() const {
    std::vector<T> all(bytes_ / sizeof(T));
    EXPECT_EQ(cudaMemcpy(all.data(), begin_, bytes_, cudaMemcpyDeviceToHost), cudaSuccess);
    return all;
  }

 private:
  void* begin_ = nullptr;
  size_t bytes_;
};

TEST(Cuda, EveryDecoderEqualsItsScalarDefinition) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine";
  constexpr int64_t kRows = 37, kColumns = 1792;
  const Draws draws(7, "decode");
  for (const auto& info : all_types()) {
    if (info.block_elements < 8) continue;
    const auto stride = *row_bytes(info.type, kColumns);
    std::vector<std::byte> stored(kRows * stride);
    for (size_t i = 0; i < stored.size(); ++i) stored[i] = static_cast<std::byte>(draws.bits(i));
    std::vector<float> expected(kRows * kColumns);
    for (int64_t r = 0; r < kRows; ++r)
      info.dequantize(stored.data() + static_cast<size_t>(r) * stride, expected.data() + r * kColumns,
                      kColumns / info.block_elements);
    const OnDevice there(stored), book(decode_book(info.type)), wide(expected.size() * 4),
        narrow(expected.size() * 2);
    DecodeJob job;
    job.type = info.type, job.stored = static_cast<const uint8_t*>(there.data()), job.book = book.data();
    job.rows = kRows, job.columns = kColumns, job.out = wide.data();
    ASSERT_EQ(launch_decode_f32(job, nullptr), nullptr) << info.name;
    job.out = narrow.data();
    ASSERT_EQ(launch_decode_bf16(job, nullptr), nullptr) << info.name;
    const auto values = wide.back<float>();
    const auto halves = narrow.back<uint16_t>();
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] != expected[i]) continue;
      ASSERT_EQ(bits_of(values[i]), bits_of(expected[i])) << info.name << " element " << i;
      ASSERT_EQ(halves[i], float_to_bf16(expected[i])) << info.name << " element " << i;
    }
  }
}

TEST(Cuda, DropoutDrawsAsTheCpuDoes) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine";
  const Draws draws(3, "proj");
  std::vector<float> x(100'003);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(draws.normal(i));
  const OnDevice in(std::as_bytes(std::span(x))), out(x.size() * 4);
  DropoutJob job;
  job.in = in.data(), job.out = out.data(), job.count = static_cast<int64_t>(x.size());
  job.key = draws.key(), job.threshold = 6554, job.scale = 1 / 0.9f;
  ASSERT_EQ(launch_drop(job, false, nullptr), nullptr);
  const auto y = out.back<float>();
  for (size_t i = 0; i < x.size(); ++i) {
    const bool kept = (draws.bits(i / 4) >> (i % 4 * 16) & 0xFFFF) >= 6554;
    ASSERT_EQ(y[i], kept ? x[i] * job.scale : 0.0f) << i;
  }
}

TEST(Cuda, AdamwEqualsItsDefinition) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine";
  const Draws draws(3, "adamw");
  constexpr int64_t kCount = 10'001;
  std::vector<float> all[4];
  for (auto& numbers : all)
    for (int64_t i = 0; i < kCount; ++i)
      numbers.push_back(static_cast<float>(draws.uniform(static_cast<uint64_t>(i) * 4 + (&numbers - all))));
  const auto bytes = [&](int which) { return std::as_bytes(std::span(all[which])); };
  const OnDevice weights(bytes(0)), sums(bytes(1)), first(bytes(2)), second(bytes(3));
  UpdateScalars s;
  s.rate = 0.01f, s.keep = 0.99f, s.beta_1 = 0.9f, s.beta_2 = 0.95f, s.rest_1 = 0.1f, s.rest_2 = 0.05f;
  s.epsilon = 1e-8f;
  const AdamwSlot slot{static_cast<float*>(weights.data()),
                       static_cast<const float*>(sums.data()),
                       static_cast<float*>(first.data()),
                       static_cast<float*>(second.data()),
                       kCount,
                       s};
  const std::vector<AdamwChunk> chunks{{0, 0}, {0, kAdamwChunk}, {0, 2 * kAdamwChunk}};
  const OnDevice slots(std::as_bytes(std::span(&slot, 1))), list(std::as_bytes(std::span(chunks))), finite(3);
  ASSERT_EQ(
      launch_adamw({static_cast<const AdamwSlot*>(slots.data()), static_cast<const AdamwChunk*>(list.data()),
                    3, static_cast<uint8_t*>(finite.data())},
                   nullptr),
      nullptr);
  const auto after = weights.back<float>();
  for (size_t i = 0; i < after.size(); ++i)
    ASSERT_EQ(bits_of(after[i]),
              bits_of(adamw_number({all[0][i], all[2][i], all[3][i]}, all[1][i], s).weight))
        << i;
  EXPECT_EQ(finite.back<uint8_t>(), (std::vector<uint8_t>{1, 1, 1}));
}

}  // namespace
}  // namespace retort
