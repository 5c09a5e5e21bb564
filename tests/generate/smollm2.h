// SmolLM2 itself, loaded once a program in fp32.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>

#include "models/model.h"
#include "where.h"  // tests

namespace retort {

template <class Test> class WithSmolLM2 : public Test {
 protected:
  void SetUp() override {
    const auto file = std::filesystem::path(source_dir()) / "checkpoints/smollm2-135m-instruct-q4_1.gguf";
    if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " is absent: run tools/setup";
    static const auto shared = load_model({.path = file.string(), .compute = "f32"});
    loaded = &shared;
  }
  const LoadedModel* loaded = nullptr;
};

}  // namespace retort
