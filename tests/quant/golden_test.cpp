// Against llama.cpp's C code, the gguf wheel and bitsandbytes: tools/golden/quant.py.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/json.h"
#include "quant/dynamic8.h"
#include "quant/nf4.h"
#include "quant/types.h"
#include "where.h"  // tests

namespace retort {
namespace {

std::vector<std::byte> golden(const std::string& name) {
  std::ifstream file(std::string(source_dir()) + "/tests/golden/quant/" + name, std::ios::binary);
  std::vector<char> text{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(text.empty()) << name;
  std::vector<std::byte> data(text.size());
  std::memcpy(data.data(), text.data(), text.size());
  return data;
}

std::vector<float> floats(const std::byte* data, size_t count) {
  std::vector<float> values(count);
  std::memcpy(values.data(), data, count * sizeof(float));
  return values;
}

std::vector<float> input() {
  const auto data = golden("input.f32");
  return floats(data.data(), data.size() / sizeof(float));
}

TEST(Golden, EveryGgufTypeDecodesToTheBitsOfLlamaCpp) {
  int types = 0;
  for (const auto& info : all_types()) {
    if (info.ggml_id < 0 || info.block_elements == 1 || info.type == WeightType::q8_1 ||
        info.type == WeightType::q8_k)
      continue;
    SCOPED_TRACE(info.name);
    const auto data = golden("decode/" + std::string(info.name) + ".bin");
    const size_t blocks = data.size() / static_cast<size_t>(info.block_bytes + 4 * info.block_elements);
    ASSERT_EQ(blocks * static_cast<size_t>(info.block_bytes + 4 * info.block_elements), data.size());
    const size_t count = blocks * static_cast<size_t>(info.block_elements);
    const auto expected = floats(data.data() + blocks * static_cast<size_t>(info.block_bytes), count);
    std::vector<float> decoded(count);
    info.dequantize(data.data(), decoded.data(), static_cast<int64_t>(blocks));
    for (size_t i = 0; i < count; ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(expected[i]))
          << "element " << i << ": " << decoded[i] << " " << expected[i];
    ++types;
  }
  EXPECT_EQ(types, 25);
}

TEST(Golden, WrittenTypesHaveTheBytesOfLlamaCpp) {
  const auto x = input();
  for (const auto type : {WeightType::q4_0, WeightType::q4_1, WeightType::q5_0, WeightType::q5_1,
                          WeightType::q8_0, WeightType::q2_k, WeightType::q3_k, WeightType::q4_k,
                          WeightType::q5_k, WeightType::q6_k, WeightType::iq4_nl}) {
    const auto& info = type_info(type);
    const auto expected = golden("encode/" + std::string(info.name) + ".bin");
    std::vector<std::byte> encoded(expected.size());
    ASSERT_EQ(*row_bytes(type, 256) * (x.size() / 256), expected.size());
    const auto rows = static_cast<int64_t>(x.size() / 256);
    quantize_rows(type, x.data(), encoded.data(), rows, 256);  // this machine's path
    std::vector<std::byte> by_definition(expected.size());
    info.quantize(x.data(), by_definition.data(), rows, 256);
    size_t different = 0;
    for (size_t i = 0; i < expected.size(); ++i)
      different += (encoded[i] != expected[i]) + (by_definition[i] != expected[i]);
    EXPECT_EQ(different, 0u) << info.name << " of 2 * " << expected.size();
  }
}

TEST(Golden, Nf4EqualsBitsandbytes) {
  const auto x = input();
  const auto data = golden("nf4.bin");
  const auto absmax = floats(data.data(), 32);
  int different = 0;
  for (size_t b = 0; b < 32; ++b) {
    Nf4Block block;
    nf4_encode(x.data() + 64 * b, block);
    EXPECT_EQ(load_float(block.absmax), absmax[b]);
    for (size_t i = 0; i < 64; ++i) {
      const int pair = std::to_integer<int>(
          data[128 + 32 * b + i / 2]);  // bitsandbytes puts the first element in the high nibble
      different += nf4_code_at(block.codes, static_cast<int>(i)) != (i % 2 == 0 ? pair >> 4 : pair & 15);
    }
  }
  EXPECT_EQ(different, 0);
}

TEST(Golden, Dynamic8EqualsBitsandbytes) {
  const auto x = input();
  const auto data = golden("dynamic8.bin");
  const auto with_sign = floats(data.data(), 256), without_sign = floats(data.data() + 1024, 256),
             absmax = floats(data.data() + 2048, 8);
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_FLOAT_EQ(dynamic8_values(Dynamic8::with_sign)[i], with_sign[i])
        << i;  // within 4 units in the last place, see dynamic8.h
    EXPECT_FLOAT_EQ(dynamic8_values(Dynamic8::without_sign)[i], without_sign[i]) << i;
  }
  std::vector<uint8_t> codes(x.size());
  std::vector<float> maxima(8);
  dynamic8_quantize(Dynamic8::with_sign, x.data(), static_cast<int64_t>(x.size()), codes.data(),
                    maxima.data());
  EXPECT_EQ(maxima, absmax);
  int different = 0;  // bitsandbytes' CPU code stores 0 as 2.1e-5 and misses the nearest value now and then;
                      // ours never does
  const auto values = dynamic8_values(Dynamic8::with_sign);
  for (size_t i = 0; i < codes.size(); ++i) {
    const auto theirs = std::to_integer<uint8_t>(data[2080 + i]);
    const float normalized = x[i] / absmax[i / 256];
    EXPECT_LE(std::fabs(values[codes[i]] - normalized), std::fabs(values[theirs] - normalized));
    different += normalized != 0.0f && codes[i] != theirs;
  }
  EXPECT_LE(different, 4);
}

}  // namespace
}  // namespace retort
