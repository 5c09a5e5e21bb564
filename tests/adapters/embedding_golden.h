// What tools/golden/embedding_adapters.py kept of PEFT: adapters, logits, a loss and its gradients.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "formats/golden_file.h"  // tests/formats
#include "formats/peft_folder.h"
#include "ops/tensors.h"  // tests/ops
#include "where.h"        // tests

namespace retort {

inline const std::filesystem::path kGolden = std::filesystem::path(source_dir()) / "tests/golden";
inline constexpr const char* kFamilies[] = {"llama",
                                            "gemma3"};  // apart; tied, and scaled where it is looked up

inline LoadedModel base(const std::string& family) {
  return load_weights({.path = (kGolden / "models" / family).string(), .compute = "f32"});
}
inline std::filesystem::path adapter(const std::string& name) {
  return kGolden / "embedding_adapters" / name;
}

inline const WeightFile& expected() {
  static const auto file = open_safetensors(kGolden / "embedding_adapters/expected.safetensors");
  return file;
}

struct Text {
  Forest forest;
  std::vector<int32_t> rows;
  std::vector<Target> targets;

  Text() {
    const auto* stored = expected().find("tokens");
    std::vector<int32_t> tokens(static_cast<size_t>(stored->elements()));
    std::memcpy(tokens.data(), stored->data.data(), stored->data.size());
    forest.add_segment(tokens);
    for (size_t i = 0; i < tokens.size(); ++i) {
      rows.push_back(static_cast<int32_t>(i));
      if (i + 1 < tokens.size()) targets.push_back({static_cast<int32_t>(i), tokens[i + 1], 1, 0});
    }
  }
};

inline Tensor logits_of(const LoadedModel& loaded) {
  const at::NoGradGuard no_grad;
  const Text text;
  const auto pass = make_pass(text.forest, at::kFloat);
  return logits(loaded.model->hidden(pass), text.rows, loaded.model->head, pass);
}

inline void expect_logits(const LoadedModel& loaded, const std::string& name, double most = 1e-5) {
  EXPECT_LT(distance(logits_of(loaded), tensor_of(expected(), name + ".logits")), most) << name;
}

template <class Loss> std::vector<Tensor> gradients_of(LoadedModel& loaded, Loss&& loss) {
  std::vector<Tensor> leaves;
  for (const auto& leaf : trainables(*loaded.model)) leaves.push_back(*leaf.tensor);
  const Text text;
  const auto pass = make_pass(text.forest, at::kFloat);
  return torch::autograd::grad({loss(loaded.model->hidden(pass), text, pass)}, leaves);
}

inline std::string refusal(const std::function<void()>& what) {
  try {
    what();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, Exit::bad_input);
    return error.what();
  }
  return "accepted";
}

// PEFT's rows in the order of their tokens.
inline Tensor sorted_rows(const Tensor& rows, const std::string& name) {
  const auto config = parse_peft_config(read_text(adapter(name) / "adapter_config.json"), "config");
  const auto& ids = config.trainable_tokens.at(0).second;
  return rows.index_select(0, at::tensor(ids, at::TensorOptions(at::kLong)).argsort());
}

// Logits, loss and every gradient of a trainable are those of PEFT.
inline void expect_peft(LoadedModel& loaded, const std::string& name) {
  expect_logits(loaded, name);
  const auto gradients = gradients_of(loaded, [&](const Tensor& hidden, const Text& text, const Pass& pass) {
    const auto loss = cross_entropy(hidden, text.targets, loaded.model->head, pass).nats;
    EXPECT_NEAR(loss.item<double>(), tensor_of(expected(), name + ".loss").item<double>(), 1e-4) << name;
    return loss;
  });
  const auto leaves = trainables(*loaded.model);
  EXPECT_GT(leaves.size(), 1u);
  for (size_t i = 0; i < leaves.size(); ++i) {
    auto gradient = gradients[i];
    auto leaf = leaves[i].name;
    if (loaded.model->embedding.adapter && leaf.find("embed_tokens") != std::string::npos) {
      leaf = peft_name("model.embed_tokens",
                       leaf.ends_with("lora_A.weight") ? "lora_embedding_B" : "lora_embedding_A");
      gradient = gradient.t();
    }
    if (leaf.ends_with("magnitude_vector")) leaf += ".weight";
    auto theirs = tensor_of(expected(), name + ".d." + leaf);
    if (leaf.ends_with("trainable_tokens_delta")) theirs = sorted_rows(theirs, name);
    EXPECT_LT(distance(gradient, theirs), 2e-5) << name << " " << leaf;
  }
}

}  // namespace retort
