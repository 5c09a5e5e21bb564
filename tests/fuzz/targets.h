// One entry for each parser of bytes from outside: a pure function that either reads its input in full and
// holds the promises of the format, or throws FormatError. Anything else (another exception, a sanitizer's
// report, abort) is a bug. The `fuzz` preset builds each as a libFuzzer program; the ordinary tests run
// seeded mutations through the same functions.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <set>
#include <span>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "base/json.h"
#include "formats/parse.h"
#include "formats/peft_folder.h"
#include "quant/types.h"

namespace retort::fuzz {

using Bytes = std::span<const std::byte>;
inline std::string_view as_text(Bytes data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

// asserts may be compiled out; a broken promise must stop the fuzzer.
inline void require(bool promise, const char* what) {
  if (promise) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

// What every accepted weight file promises. Returns a sum over all bytes, so that each is really read.
inline uint64_t read_in_full(const ParsedFile& parsed, Bytes file, uint64_t alignment_of_end) {
  std::set<std::string_view> names;
  uint64_t reached = 0, sum = 0;
  for (const auto& tensor : parsed.tensors) {
    require(names.insert(tensor.name).second, "names are unique");
    require(tensor.begin <= tensor.end && tensor.end <= file.size(), "data lie in the file");
    require(tensor.begin >= reached, "data do not overlap");
    require(tensor.end - tensor.begin == tensor_bytes(tensor.type, tensor.shape, "", tensor.name),
            "size = shape x type");
    for (const auto byte : file.subspan(tensor.begin, tensor.end - tensor.begin))
      sum += std::to_integer<uint64_t>(byte);
    reached = tensor.end;
  }
  if (!parsed.tensors.empty()) {
    uint64_t padded = 0;
    require(align_up(reached, alignment_of_end, padded) && file.size() <= padded, "sizes sum to the file");
  }
  return sum;
}

inline uint64_t safetensors(Bytes data) { return read_in_full(parse_safetensors(data, "fuzzed"), data, 1); }

inline uint64_t gguf(Bytes data) {
  const auto parsed = parse_gguf(data, "fuzzed");
  std::set<std::string_view> keys;
  uint64_t alignment = 32;
  for (const auto& [key, value] : parsed.gguf_metadata) {
    require(keys.insert(key).second, "keys are unique");
    if (key == "general.alignment") alignment = std::get<uint32_t>(value);
  }
  return read_in_full(parsed, data, alignment);
}

inline uint64_t safetensors_index(Bytes data) {
  const auto entries = parse_safetensors_index(as_text(data), "fuzzed");
  for (const auto& [tensor, shard] : entries) require(is_plain_name(shard), "shards are plain names");
  return entries.size();
}

inline uint64_t peft_config(Bytes data) {
  const auto config = parse_peft_config(as_text(data), "fuzzed");
  require(config.r >= 1, "rank is at least 1");
  const auto again = parse_peft_config(peft_config_text(config), "written");
  require(again.r == config.r && again.rank_pattern == config.rank_pattern &&
              again.alpha_pattern == config.alpha_pattern,
          "write(read(x)) reads equal");
  static_cast<void>(peft_scaling(config, "model.layers.0.self_attn.q_proj"));
  return static_cast<uint64_t>(config.r);
}

inline uint64_t json(Bytes data) {
  const auto tree = parse_json(as_text(data), "fuzzed");
  const auto written = tree.dump();
  require(parse_json(written, "written").dump() == written, "write(read(x)) reads equal");
  return written.size();
}

// The first byte chooses a type, the rest are its blocks: any bits decode to numbers without touching
// anything else.
inline uint64_t blocks(Bytes data) {
  if (data.empty()) return 0;
  const auto types = all_types();
  const auto& info = types[std::to_integer<size_t>(data[0]) % types.size()];
  if (!info.dequantize) return 0;
  const std::vector<std::byte> aligned(data.begin() + 1, data.end());
  const auto count = static_cast<int64_t>(aligned.size()) / info.block_bytes;
  std::vector<float> values(static_cast<size_t>(count * info.block_elements));
  info.dequantize(aligned.data(), values.data(), count);
  return values.size();
}

struct Target {
  const char* name;
  uint64_t (*run)(Bytes);
};
inline constexpr Target kTargets[] = {
    {"safetensors", safetensors}, {"gguf", gguf}, {"safetensors_index", safetensors_index},
    {"peft_config", peft_config}, {"json", json}, {"blocks", blocks}};

}  // namespace retort::fuzz
