// The kernels on a GPU, against the scalar definitions bit for bit. Compiled in a CUDA build alone, and never
// run where this was written.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
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

TEST(Cuda, RotationEqualsItsDefinition) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine";
  constexpr int64_t kRows = 300, kHeads = 5, kWidth = 64, kHalf = 16, kFirst = 24, kPositions = 400;
  const Draws draws(3, "rotate");
  std::vector<float> x(kRows * kHeads * kWidth), cosine(kPositions * kHalf), sine(cosine.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(draws.normal(i));
  for (size_t i = 0; i < sine.size(); ++i) {
    cosine[i] = static_cast<float>(draws.uniform((1 << 24) + i));
    sine[i] = static_cast<float>(draws.uniform((1 << 25) + i));
  }
  std::vector<int64_t> positions(kRows);
  for (size_t i = 0; i < positions.size(); ++i) positions[i] = static_cast<int64_t>(i * 37 % kPositions);
  const OnDevice in(std::as_bytes(std::span(x))), out(x.size() * 4),
      where(std::as_bytes(std::span(positions)));
  const OnDevice cosines(std::as_bytes(std::span(cosine))), sines(std::as_bytes(std::span(sine)));
  RotateJob job;
  job.x = in.data(), job.out = out.data(), job.positions = static_cast<const int64_t*>(where.data());
  job.cosine = static_cast<const float*>(cosines.data()), job.sine = static_cast<const float*>(sines.data());
  job.rows = kRows, job.heads = kHeads, job.width = kWidth, job.half = kHalf, job.first = kFirst;
  for (const bool interleaved : {false, true})
    for (const bool back : {false, true}) {
      job.interleaved = interleaved, job.back = back;
      ASSERT_EQ(launch_rotate(job, false, nullptr), nullptr);
      auto expected = x;
      for (int64_t head = 0; head < kRows * kHeads; ++head)
        for (int64_t i = 0; i < kHalf; ++i) {
          const auto begin = head * kWidth + kFirst;
          auto& a = expected[static_cast<size_t>(begin + (interleaved ? 2 * i : i))];
          auto& b = expected[static_cast<size_t>(begin + (interleaved ? 2 * i + 1 : i + kHalf))];
          const auto at = static_cast<size_t>(positions[static_cast<size_t>(head / kHeads)] * kHalf + i);
          const auto pair = rotated_pair(a, b, cosine[at], back ? -sine[at] : sine[at]);
          a = pair.a, b = pair.b;
        }
      const auto y = out.back<float>();
      for (size_t i = 0; i < y.size(); ++i)
        ASSERT_EQ(bits_of(y[i]), bits_of(expected[i])) << i << " " << interleaved << " " << back;
    }
}

TEST(Cuda, TokensGoToExpertsAndBackAsTheCpuSums) {
  if (!has_gpu()) GTEST_SKIP() << "no GPU on this machine";
  constexpr int64_t kTokens = 3000, kEach = 4, kExperts = 300, kWidth = 264;
  const Draws draws(3, "experts");
  std::vector<int32_t> expert(kTokens * kEach), order(expert.size());
  for (size_t i = 0; i < expert.size(); ++i)  // each choice of a token among a quarter of the experts
    expert[i] = static_cast<int32_t>(draws.below(i, kExperts / kEach) + i % kEach * (kExperts / kEach));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return expert[static_cast<size_t>(a)] < expert[static_cast<size_t>(b)];
  });
  std::vector<float> x(kTokens * kWidth);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(draws.normal((1 << 24) + i));
  SortJob sort;
  sort.slots = kTokens * kEach, sort.experts = kExperts;
  const OnDevice of(std::as_bytes(std::span(expert))),
      before(static_cast<size_t>(kExperts * sort.tiles()) * 4);
  const OnDevice starts((kExperts + 1) * 4), sorted(expert.size() * 4), places(expert.size() * 4);
  sort.expert = static_cast<const int32_t*>(of.data()), sort.before = static_cast<int32_t*>(before.data());
  sort.starts = static_cast<int32_t*>(starts.data()), sort.order = static_cast<int32_t*>(sorted.data());
  sort.places = static_cast<int32_t*>(places.data());
  ASSERT_EQ(launch_sort(sort, nullptr), nullptr);
  ASSERT_EQ(sorted.back<int32_t>(), order);
  const OnDevice in(std::as_bytes(std::span(x))), rows(x.size() * kEach * 4), out(x.size() * 4);
  RowsJob job;
  job.tokens = kTokens, job.each = kEach, job.width = kWidth, job.order = sort.order;
  job.x = in.data(), job.out = rows.data();
  ASSERT_EQ(launch_rows(job, false, nullptr), nullptr);
  const auto moved = rows.back<float>();
  for (size_t i = 0; i < moved.size(); ++i) {
    const auto token = static_cast<size_t>(order[i / kWidth] / kEach);
    ASSERT_EQ(moved[i], x[token * kWidth + i % kWidth]) << i;
  }
  const auto begins = starts.back<int32_t>();
  std::vector<const void*> parts(kExperts);
  for (size_t e = 0; e < kExperts; ++e)
    if (e != 5)  // whose rows are zero
      parts[e] = static_cast<const float*>(rows.data()) + begins[e] * kWidth;
  const OnDevice addresses(std::as_bytes(std::span(parts)));
  job.x = nullptr, job.out = out.data(), job.expert = sort.expert, job.places = sort.places;
  job.starts = sort.starts, job.parts = static_cast<const void* const*>(addresses.data());
  ASSERT_EQ(launch_rows(job, false, nullptr), nullptr);
  const auto y = out.back<float>();
  for (size_t i = 0; i < y.size(); ++i) {
    float sum = 0;
    for (size_t slot = i / kWidth * kEach; slot < (i / kWidth + 1) * kEach; ++slot)
      if (expert[slot] != 5) sum += x[i];
    ASSERT_EQ(y[i], sum) << i;
  }
}

}  // namespace
}  // namespace retort
