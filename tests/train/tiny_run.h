// A training run small enough for a test: the tiny llama of the goldens, LoRA of rank 4, made-up samples.
#pragma once
#include <gtest/gtest.h>

#include <numeric>

#include "adapters/attach.h"
#include "base/random.h"
#include "data/temporary_folder.h"
#include "train/train.h"
#include "where.h"  // tests

namespace retort {

inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path(source_dir()) / "tests/golden" / name;
}

// Samples of 6 to 21 tokens; every third pair shares a prompt of 5. The first three tokens are not
// supervised.
inline std::vector<Sample> made_up_samples(int64_t count, uint64_t seed) {
  const Draws draws(seed, "test samples");
  std::vector<Sample> samples;
  for (int64_t i = 0; i < count; ++i) {
    Sample sample;
    sample.id = "made-up:" + std::to_string(i + 1);
    const auto length = 6 + static_cast<int64_t>(draws.below(static_cast<uint64_t>(1000 * i), 16));
    for (int64_t t = 0; t < length; ++t) {
      const auto owner = t < 5 && i % 3 == 1 ? i - 1 : i;
      sample.tokens.push_back(
          3 + static_cast<int32_t>(draws.below(static_cast<uint64_t>(1000 * owner + t + 1), 93)));
      sample.weights.push_back(t < 3 ? 0 : 1);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

inline TrainSpec tiny_spec() {
  TrainSpec spec;
  spec.threads = 2;
  spec.batch.samples = 8;
  spec.batch.pass_tokens = 48;
  spec.optimizer.learning_rate = 1e-2;
  spec.checkpoint.every = 0;
  return spec;
}

inline AdapterSpec lora(int64_t rank = 4, double dropout = 0) {
  AdapterSpec spec;
  spec.rank = rank;
  spec.alpha = 8;
  spec.dropout = dropout;
  return spec;
}

struct TinyRun {
  explicit TinyRun(const AdapterSpec& adapter = lora(), const std::string& family = "llama",
                   ModelSpec spec = {})
      : loaded(load_weights(at(std::move(spec), family))), leaves(attach(*loaded.model, adapter, 3)) {}
  static ModelSpec at(ModelSpec spec, const std::string& family) {
    spec.path = golden_folder("models/" + family).string();
    return spec;
  }

  TrainJob job(const std::filesystem::path& at) const {
    return {.model = *loaded.model,
            .trainables = leaves,
            .samples = samples,
            .held_out = held_out,
            .objective = next_token_objective(),
            .folder = at};
  }
  // Everything that is trained, end to end.
  std::string bytes() const {
    std::string all;
    for (const auto& leaf : leaves)
      all.append(static_cast<const char*>(leaf.tensor->const_data_ptr()), leaf.tensor->nbytes());
    return all;
  }

  LoadedModel loaded;
  std::vector<NamedTensor> leaves;
  std::vector<Sample> samples = made_up_samples(30, 1), held_out = made_up_samples(6, 2);
};

inline void move_b(TinyRun& run) {  // away from B = 0, where A has no gradient
  for (auto& [name, tensor, place] : run.leaves)
    if (name.ends_with("lora_B.weight")) {
      auto* values = tensor->mutable_data_ptr<float>();
      for (int64_t i = 0; i < tensor->numel(); ++i)
        values[i] = 0.1f * static_cast<float>(Draws(5, name).normal(static_cast<uint64_t>(i)));
    }
}

// The indices of the first samples.
inline std::vector<int64_t> first(int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

}  // namespace retort
