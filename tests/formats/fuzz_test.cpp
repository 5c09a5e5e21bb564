// The fuzz targets in the ordinary test run: every stored seed, then thousands of seeded mutations of them.
#include <gtest/gtest.h>

#include <array>
#include <map>

#include "base/random.h"
#include "formats/made_files.h"
#include "fuzz/targets.h"
#include "where.h"  // tests

namespace retort {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(source_dir()) / "tests/golden/formats";

std::vector<std::string> safetensors_seeds() {
  return {read_text(kGolden / "small.safetensors"), read_text(kGolden / "adapter/adapter_model.safetensors"),
          safetensors_bytes("{}", 0),
          safetensors_bytes(
              R"({"t":{"dtype":"U8","shape":[2,2],"data_offsets":[0,4]},"u":{"dtype":"F32","shape":[],)"
              R"("data_offsets":[4,8]}})",
              8)};
}

std::vector<std::string> gguf_seeds() {
  const auto pair_of_each = [] {
    std::vector<std::string> pairs;
    const std::map<uint32_t, size_t> kSizes = {{0, 1}, {1, 1}, {2, 2},  {3, 2},  {4, 4}, {5, 4},
                                               {6, 4}, {7, 1}, {10, 8}, {11, 8}, {12, 8}};
    for (const auto& [type, size] : kSizes) {
      pairs.push_back(gguf_pair(fmt::format("k{}", type), type, std::string(size, '\1')));
      pairs.push_back(
          gguf_pair(fmt::format("a{}", type), 9, le(type) + le(uint64_t{2}) + std::string(2 * size, '\1')));
    }
    pairs.push_back(gguf_pair("s", 8, gguf_text("text")));
    pairs.push_back(gguf_pair("as", 9, le(8u) + le(uint64_t{2}) + gguf_text("a") + gguf_text("bc")));
    return pairs;
  };
  return {read_text(kGolden / "small.gguf"), MadeGguf{}.bytes(), MadeGguf{.pairs = pair_of_each()}.bytes(),
          MadeGguf{.pairs = {gguf_pair("general.alignment", 4, le(64u))},
                   .infos = {gguf_info("a", {3}, 0, 0), gguf_info("b", {32, 2}, 8, 64)},
                   .data_bytes = 132,
                   .alignment = 64}
              .bytes()};
}

std::vector<std::string> json_seeds() {
  return {
      R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}, "metadata": {"total_size": 7}})",
      R"([1, -2.5e3, "\u00e9\ud83d\ude00", null, true, {"k": []}])",
      read_text(kGolden / "adapter/adapter_config.json"),
      R"({"peft_type": "LORA", "r": 4, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"^model.*": 1.5}})"};
}

std::vector<std::string> index_seeds() {
  return {json_seeds()[0], R"({"weight_map": {"model.norm.weight": "model.safetensors"}})",
          R"({"weight_map": {}})"};
}
std::vector<std::string> config_seeds() { return {json_seeds()[2], json_seeds()[3]}; }

std::vector<std::string> block_seeds() {
  std::vector<std::string> seeds;
  for (size_t type = 0; type < all_types().size(); ++type)
    seeds.push_back(static_cast<char>(type) + std::string(600, static_cast<char>(0xA5)));
  return seeds;
}

// One to four small edits, all drawn from (seed, index).
std::string mutate(std::string bytes, const Draws& draws) {
  constexpr std::array<uint64_t, 10> kTelling = {
      0,         1,           0x7F, 0xFF, 0xFFFFFFFF, uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 60,
      INT64_MAX, ~uint64_t{0}};
  const auto edits = 1 + draws.below(0, 4);
  for (uint64_t edit = 0; edit < edits && !bytes.empty(); ++edit) {
    const auto at = draws.below(8 * edit + 1, bytes.size()),
               count = 1 + draws.below(8 * edit + 2, std::min<uint64_t>(16, bytes.size() - at));
    const auto value = draws.bits(8 * edit + 3);
    switch (draws.below(8 * edit + 4, 8)) {
      case 0: bytes[at] = static_cast<char>(bytes[at] ^ (1 << (value % 8))); break;
      case 1: bytes[at] = static_cast<char>(value); break;
      case 2: bytes.erase(at, count); break;
      case 3: bytes.insert(at, bytes.substr(at, count)); break;
      case 4: bytes.resize(at); break;
      case 5: {
        const auto telling = le(kTelling[value % kTelling.size()]);
        for (size_t i = 0; i < 8 && at + i < bytes.size(); ++i) bytes[at + i] = telling[i];
        break;
      }
      case 6: bytes.insert(at, le(value).substr(0, count)); break;
      default: bytes[at] = "[]{}\",:0129.eE-\\ \0"[value % 18]; break;
    }
  }
  return bytes;
}

// A safetensors file's header length follows its edits half of the time: otherwise nothing beyond the first
// check is reached.
std::string with_right_length(std::string bytes, size_t original) {
  if (bytes.size() < 8) return bytes;
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  length += bytes.size() - original;
  return le(length) + bytes.substr(8);
}

struct Tally {
  int accepted = 0, refused = 0;
};

Tally run(const fuzz::Target& target, const std::vector<std::string>& seeds, uint64_t mutations) {
  Tally tally;
  const auto attempt = [&](const std::string& bytes) {
    const std::vector<char> exact(bytes.begin(),
                                  bytes.end());  // its own allocation: ASan sees one byte too far
    try {
      target.run(std::as_bytes(std::span(exact)));
      ++tally.accepted;
    } catch (const FormatError& error) {
      ++tally.refused;
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    }
  };
  for (const auto& seed : seeds) attempt(seed);
  for (uint64_t i = 0; i < mutations; ++i) {
    const auto& seed = seeds[i % seeds.size()];
    const Draws draws(20260, target.name, i);
    auto bytes = mutate(seed, draws);
    if (std::string_view(target.name) == "safetensors" && draws.below(99, 2) == 0)
      bytes = with_right_length(std::move(bytes), seed.size());
    attempt(bytes);
  }
  return tally;
}

}  // namespace

TEST(Fuzz, MutatedFilesAreReadInFullOrRefused) {
  const std::map<std::string, std::vector<std::string>> seeds = {
      {"safetensors", safetensors_seeds()}, {"gguf", gguf_seeds()}, {"safetensors_index", index_seeds()},
      {"peft_config", config_seeds()},      {"json", json_seeds()}, {"blocks", block_seeds()}};
  for (const auto& target : fuzz::kTargets) {
    const auto tally = run(target, seeds.at(target.name), 3000);
    EXPECT_GT(tally.accepted, 50) << target.name;  // a harness that refuses everything tests nothing
    const bool refuses = std::string_view(target.name) != "blocks";  // any bits are blocks
    EXPECT_GT(tally.refused, refuses ? 500 : -1) << target.name;
  }
}

// Inputs that once broke a reader, or may: kept as files, run by every target.
TEST(Fuzz, StoredFilesAreReadInFullOrRefused) {
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(kGolden)) {
    if (!entry.is_regular_file()) continue;
    ++files;
    for (const auto& target : fuzz::kTargets) run(target, {read_text(entry.path())}, 0);
  }
  EXPECT_GE(files, 4);
}

// Whatever is accepted can be written, and reads equal.
TEST(Fuzz, AcceptedFilesSurviveWritingAndReading) {
  TemporaryFolder folder;
  int compared = 0;
  const auto compare = [&](const ParsedFile& parsed, std::string_view file, const ParsedFile& again,
                           std::string_view written) {
    EXPECT_EQ(parsed.gguf_metadata.size(), again.gguf_metadata.size());
    EXPECT_EQ(parsed.safetensors_metadata, again.safetensors_metadata);
    ASSERT_EQ(parsed.tensors.size(), again.tensors.size());
    for (const auto& tensor : parsed.tensors) {
      const auto same = std::find_if(again.tensors.begin(), again.tensors.end(),
                                     [&](const auto& other) { return other.name == tensor.name; });
      ASSERT_NE(same, again.tensors.end()) << printable(tensor.name);
      EXPECT_EQ(same->shape, tensor.shape);
      EXPECT_EQ(same->type, tensor.type);
      EXPECT_EQ(written.substr(same->begin, same->end - same->begin),
                file.substr(tensor.begin, tensor.end - tensor.begin));
    }
    ++compared;
  };
  const auto sources = [](const ParsedFile& parsed, std::string_view file) {
    std::vector<TensorSource> list;
    for (const auto& tensor : parsed.tensors)
      list.push_back(tensor_source(tensor.name, tensor.type, tensor.shape,
                                   as_bytes_of(file.substr(tensor.begin, tensor.end - tensor.begin))));
    return list;
  };
  for (uint64_t i = 0; i < 400 && compared < 60; ++i) {
    for (const bool gguf : {false, true}) {
      const auto seeds = gguf ? gguf_seeds() : safetensors_seeds();
      const auto file = mutate(seeds[i % seeds.size()], Draws(7, "round trip", i));
      const auto parse = gguf ? parse_gguf : parse_safetensors;
      ParsedFile parsed;
      try {
        parsed = parse(as_bytes_of(file), "mutated");
      } catch (const FormatError&) { continue; }
      if (gguf) write_gguf(folder.path / "x", parsed.gguf_metadata, sources(parsed, file));
      else write_safetensors(folder.path / "x", sources(parsed, file), parsed.safetensors_metadata);
      const auto written = read_text(folder.path / "x");
      compare(parsed, file, parse(as_bytes_of(written), "written"), written);
    }
  }
  EXPECT_GE(compared, 60);
}

}  // namespace retort
