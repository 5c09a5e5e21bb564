// The golden models with a tokenizer of their size, so that every export of them can be written.
#pragma once
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/temporary_folder.h"  // tests/data
#include "models/model.h"
#include "text/tokenizer.h"
#include "where.h"  // tests

namespace retort {

// "<pad>", "<s>", "</s>", then a token a byte from "Ġ" and "!" on: `tokens` in all, at most 97.
inline Json tiny_tokenizer(int64_t tokens) {
  Json vocabulary = Json::object(), added = Json::array();
  for (const char* special : {"<pad>", "<s>", "</s>"}) {
    added.push_back({{"id", vocabulary.size()}, {"content", special}, {"special", true}});
    vocabulary[special] = vocabulary.size();
  }
  vocabulary["Ġ"] = vocabulary.size();
  for (char c = '!'; static_cast<int64_t>(vocabulary.size()) < tokens; ++c)
    vocabulary[std::string(1, c)] = vocabulary.size();
  return {{"added_tokens", added},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}};
}

// A golden model's folder with that tokenizer.
inline std::filesystem::path tiny_folder(const std::filesystem::path& target, const std::string& family,
                                         const Json& tokenizer) {
  const auto golden = std::filesystem::path(source_dir()) / "tests/golden/models" / family;
  std::filesystem::create_directories(target);
  for (const char* name : {"config.json", "model.safetensors"})
    std::filesystem::copy_file(golden / name, target / name);
  write_text(target / "tokenizer.json", tokenizer.dump());
  write_text(target / "tokenizer_config.json",
             Json({{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}}).dump());
  return target;
}

inline LoadedModel tiny_model(const TemporaryFolder& folder, const std::string& family = "llama",
                              int64_t tokens = 96) {
  return load_model(
      {.path = tiny_folder(folder / "tiny", family, tiny_tokenizer(tokens)).string(), .compute = "f32"});
}

template <class Act> std::string refusal_of(const Act& act) {
  try {
    act();
  } catch (const Error& error) { return error.what(); }
  return "accepted";
}

}  // namespace retort
