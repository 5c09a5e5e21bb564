// What a file lacks, or has otherwise than its configuration says, is named with the file.
#include "models/layers.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/error.h"
#include "base/json.h"
#include "where.h"  // tests

namespace retort {
namespace {

namespace fs = std::filesystem;

TEST(Parts, ShapesThatTheConfigurationDoesNotAskForNameTheFile) {
  const auto golden = fs::path(source_dir()) / "tests/golden/models/llama";
  const auto folder = fs::temp_directory_path() / fmt::format("retort_parts_{}", getpid());
  fs::create_directories(folder);
  fs::copy_file(golden / "model.safetensors", folder / "model.safetensors",
                fs::copy_options::overwrite_existing);
  const auto config = read_json(golden / "config.json");
  for (const char* key : {"intermediate_size", "vocab_size", "num_hidden_layers", "hidden_size"}) {
    auto other = config;
    other[key] = config.at(key).get<int64_t>() + (std::string_view(key) == "hidden_size" ? 8 : 1);
    std::ofstream(folder / "config.json") << other;
    std::string said = "loaded";
    try {
      load_weights({.path = folder.string()});
    } catch (const FormatError& error) { said = error.what(); }
    EXPECT_TRUE(said.starts_with(folder.string())) << key << ": " << said;
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace retort
