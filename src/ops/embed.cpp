#include "ops/embed.h"

#include <cmath>
#include <stdexcept>

#include "base/random.h"
#include "ops/differentiable.h"
#include "ops/gradient_sink.h"

namespace retort {

void RowGradient::add_to(Tensor& sum) const {
  if (!matrix.defined()) return;
  if (!sum.defined()) sum = at::zeros(matrix.sizes(), at::TensorOptions(at::kFloat));
  sum.index_add_(0, tokens, rows.to(at::kFloat), factor);
}

Tensor embed(const Weight& embedding, const Pass& pass, double scale) {
  const auto type = pass.compute;
  const auto factor = at::scalar_tensor(scale, at::TensorOptions(type)).item<double>();
  const auto bytes =
      static_cast<double>(pass.size() * embedding.columns * static_cast<int64_t>(c10::elementSize(type)));
  return differentiable({"embed", 0, 2 * bytes, 0, 2 * bytes}, {embedding.dense}, [&](bool) -> Computed {
    const int64_t n = pass.size(), width = embedding.columns;
    const auto* ids = pass.tokens.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < n; ++i)
      if (ids[i] < 0 || ids[i] >= embedding.rows)
        throw std::out_of_range("token " + std::to_string(ids[i]) + " is outside the model's vocabulary of " +
                                std::to_string(embedding.rows));
    Tensor x;
    if (embedding.dense.defined()) {
      x = embedding.dense.detach().index_select(0, pass.tokens).to(type);
    } else {
      x = at::empty({n, width}, at::TensorOptions(type));
      for (int64_t i = 0; i < n; ++i) {
        auto row = x.narrow(0, i, 1);
        widen_rows_into(embedding, ids[i], 1, row);
      }
    }
    if (factor != 1) x.mul_(factor);
    if (pass.training && pass.embedding_noise > 0) {
      const Draws draws(pass.dropout_key, "embedding noise");
      const double length = static_cast<double>(pass.positions.max().item<int64_t>() + 1);
      const double size = pass.embedding_noise / std::sqrt(length * static_cast<double>(width));
      auto noise = at::empty({n, width}, at::TensorOptions(at::kFloat));
      auto* out = noise.mutable_data_ptr<float>();
      for (int64_t i = 0; i < n * width; ++i)
        out[i] = static_cast<float>(size * (2 * draws.uniform(static_cast<uint64_t>(i)) - 1));
      x.add_(noise);
    }
    return {x,
            [tokens = pass.tokens, matrix = embedding.dense, factor,
             sink = pass.gradients](const Tensor& dx) -> Tensors {
              RowGradient gradient{matrix, tokens, dx, factor};
              if (sink && sink->take_rows(gradient)) return {Tensor()};
              Tensor sum;
              gradient.add_to(sum);
              return {sum};
            }};
  });
}

}  // namespace retort
