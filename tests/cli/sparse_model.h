// A tiny random model with experts and SmolLM2's tokenizer, as a folder that the program reads.
#pragma once
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include "export/artefacts.h"
#include "models/model.h"

namespace retort {

inline LoadedModel random_sparse_model(const std::string& family, const std::string& tokenizer_file) {
  auto loaded = load_model({.path = tokenizer_file});
  auto config = loaded.model->config;
  config.family = family;
  config.hf_architecture = family == "mixtral" ? "MixtralForCausalLM" : "Qwen3MoeForCausalLM";
  config.hidden = 64, config.layers = 2, config.heads = 4, config.kv_heads = 2, config.head_dim = 16,
  config.intermediate = 96, config.context = 512;
  config.experts = 4, config.experts_per_token = 2,
  config.expert_intermediate = family == "mixtral" ? config.intermediate : 32;
  config.tied_head = family != "mixtral";  // mixtral's head is a matrix of its own
  auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
  const auto matrix = [&](int64_t rows, int64_t columns) {
    return at::randn({rows, columns}, generator, at::TensorOptions(at::kFloat)).mul_(0.15).to(at::kBFloat16);
  };
  loaded.model = build_model(
      config,
      [&](const TensorPlace& place) {
        Linear layer;
        const auto role = place.role;
        if (role == Role::head) layer.weight = dense_weight(matrix(config.vocabulary, config.hidden));
        else if (role == Role::o)
          layer.weight = dense_weight(matrix(config.hidden, config.heads * config.head_dim));
        else if (place.expert >= 0)
          layer.weight = dense_weight(role == Role::down ? matrix(config.hidden, config.expert_intermediate)
                                                         : matrix(config.expert_intermediate, config.hidden));
        else
          layer.weight = dense_weight(
              matrix((role == Role::q ? config.heads : config.kv_heads) * config.head_dim, config.hidden));
        return layer;
      },
      [&](const TensorPlace& place) {
        if (place.role == Role::router)
          return matrix(config.experts, config.hidden)
              .to(at::kFloat)
              .mul_(5);  // decided: rounding changes no choice
        return at::ones(
            {place.role == Role::q_norm || place.role == Role::k_norm ? config.head_dim : config.hidden});
      },
      [&](const TensorPlace&) { return dense_weight(matrix(config.vocabulary, config.hidden)); });
  return loaded;
}

}  // namespace retort
