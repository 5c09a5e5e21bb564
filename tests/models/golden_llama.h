// The tiny Llama of tests/golden/models, and relatives of it that say something else.
#pragma once
#include <ATen/CPUGeneratorImpl.h>

#include <filesystem>

#include "models/model.h"
#include "where.h"  // tests

namespace retort {

// The weight, and noise on it of this part of its spread.
inline Tensor noisy(const Weight& weight, at::Generator& generator, double part) {
  const auto w = widen(weight, at::kFloat);
  return w + at::randn(w.sizes(), generator, w.options()) * w.std() * part;
}

// As it is, or with noise on its head, drawn from `seed`.
inline LoadedModel golden_llama(uint64_t seed = 0, double part = 0.7) {
  auto loaded =
      load_weights({.path = (std::filesystem::path(source_dir()) / "tests/golden/models/llama").string(),
                    .weights = "f32"});
  if (seed == 0) return loaded;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  auto& head = loaded.model->head.linear;
  head.weight = dense_weight(noisy(head.weight, generator, part));
  return loaded;
}

}  // namespace retort
